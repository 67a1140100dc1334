"""Runs ggml-rpc-server on this machine for a test."""

import glob
import os
import signal
import socket
import subprocess
import time


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


class RpcServer:
    """A running server with the CPU as its device."""

    def __init__(self):
        program, = glob.glob("/usr/libexec/*/llama/bin/ggml-rpc-server")
        self.port = free_port()
        self.name = f"127.0.0.1:{self.port}"
        self.process = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(self.port), "-d", "CPU", "-t", "1"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not self.accepts():
            assert time.monotonic() < end and self.process.poll() is None, "ggml-rpc-server does not start"
            time.sleep(0.05)

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def seconds(self):
        """CPU time that the server has taken."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def work(self, seconds):
        """Waits until it has computed for so long from now on."""
        enough, end = self.seconds() + seconds, time.monotonic() + 60
        while self.seconds() < enough:
            assert self.process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
