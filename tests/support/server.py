"""Starts `cake serve` for a test and sends requests to it."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import threading

from support.cake_process import BUNDLED, CAKE, environment

CHATML = ("--chat-template", "chatml")


class Server:
    """A running server. After it has ended, `errors` has its standard error."""

    def __init__(self, *arguments, model=BUNDLED, threads=1, env=None, headers=None):
        self.headers = headers or {}  # of all requests
        self.process = subprocess.Popen(
            [CAKE, "serve", "-m", str(model), "-t", str(threads), "--port", "0", *CHATML, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**environment(), **(env or {})}, text=True, errors="replace")
        head = ""
        while not (match := re.search(r"http://[^:/]+:(\d+)/", head)):
            line = self.process.stderr.readline()
            head += line
            if not line:
                self.process.kill()
                raise RuntimeError(head + self.process.communicate()[1])
        self.port = int(match[1])
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True)
        self.reader.start()  # or the server would wait when the pipe is full

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()

    def stop(self, number=signal.SIGTERM, timeout=60):
        """Sends a signal and returns the exit code. Stores standard error after its first line in `errors`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        code = self.process.wait(timeout)
        self.reader.join(timeout)
        self.errors = "".join(self.lines)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def connect(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def socket(self, timeout=120):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def ask(self, method, path, body=None, headers=None, timeout=120):
        """Sends a request and returns status, headers and body. A JSON body is parsed."""
        connection = self.connect(timeout)
        try:
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            content = response.read()
            if "json" in response.headers.get("Content-Type", ""):
                content = json.loads(content)
            return response.status, response.headers, content
        finally:
            connection.close()

    def get(self, path, **options):
        return self.ask("GET", path, **options)[2]

    def complete(self, prompt, **fields):
        """Returns the body of a successful answer of /v1/completions at temperature 0."""
        status, _, body = self.ask("POST", "/v1/completions", {"prompt": prompt, "temperature": 0, **fields})
        assert status == 200, body
        return body

    def metric(self, name):
        text = self.get("/metrics").decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if re.match(re.escape(name) + r"(\{| )", line))


def events(response):
    """Yields the parsed data of a stream's events before [DONE]."""
    for line in response:
        if not line.startswith(b"data: "):
            continue
        data = line[len(b"data: "):].strip()
        if data == b"[DONE]":
            return
        yield json.loads(data)
