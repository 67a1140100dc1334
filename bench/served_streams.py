"""Servers and streamed completions for scripts that measure `cake serve`."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time


@contextlib.contextmanager
def running(command, port):
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until_ready(server, port)
            yield
        finally:
            server.terminate()


def wait_until_ready(server, port):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("a server ended before it was ready")
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.2)
    sys.exit("a server was not ready within two minutes")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stream(threading.Thread):
    """A streamed completion. `times` has the arrival time of each token."""

    def __init__(self, port, prompt, n_tokens, **more):
        super().__init__(daemon=True)
        self.times = []
        self.port = port
        self.body = {"prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True, "temperature": 0, "stream": True, **more}

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3600)
        connection.request("POST", "/v1/completions", json.dumps(self.body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"the server answered {response.status}: {response.read().decode()}")
        for line in response:
            if line.startswith(b"data: {") and b'"text"' in line:
                self.times.append(time.monotonic())
