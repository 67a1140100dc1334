"""Shared by the tests of `cake serve`: a server for a test class, requests, and raw connections."""

import contextlib
import http.client
import json
import re
import time
import unittest
from unittest.mock import ANY

from support.cake_process import BUNDLED, SANITIZED
from support.server import Server, events

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QUESTION = "the rain"
DOCUMENT = (BUNDLED.parent / "document.txt").read_text(encoding="utf-8")
PATIENCE = 10 if SANITIZED else 1
SOON = 2 * PATIENCE  # seconds


def until(condition, seconds=SOON):
    """Waits for a condition. Returns False if it does not become true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def fields(path, question=QUESTION, **more):
    asked = {"messages": [{"role": "user", "content": question}]} if path == CHAT else {"prompt": question}
    return {**asked, "temperature": 0, "max_tokens": 8, **more}


def said(answer, index=0):
    choice = answer["choices"][index]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def choices_of(chunks, index=0):
    return [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]


def told(chunks, index=0):
    """Returns the text of a choice, joined from the chunks of a stream."""
    return "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices_of(chunks, index))


def reasons(chunks, index=0):
    return [choice["finish_reason"] for choice in choices_of(chunks, index)]


def request(method, path, *headers, body=b"", host="127.0.0.1"):
    """Builds the bytes of a request, for requests that no library would send."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    if body:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Wire:
    """A raw connection to the server."""

    def __init__(self, server, timeout=5 * PATIENCE):
        self.socket = server.socket(timeout)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)
        return self

    def answer(self, with_body=True):
        """Returns status, headers and body of the next answer."""
        line = self.file.readline()
        while line.startswith(b"HTTP/1.1 100 "):
            http.client.parse_headers(self.file)
            line = self.file.readline()
        if not line:
            raise ConnectionError("the server closed the connection without an answer")
        headers = http.client.parse_headers(self.file)
        body = self.file.read(int(headers.get("Content-Length", 0))) if with_body else b"null"
        return int(line.split()[1]), headers, json.loads(body) if "json" in headers["Content-Type"] else body

    def has_ended(self, seconds=1):
        """Whether the server closes the connection without sending anything more."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            return self.file.read(1) == b""
        return False


class Served(unittest.TestCase):
    """One server for all tests of a class. It must survive them, stay within its memory bound, and exit with code 0."""

    FLAGS = ()
    HEADERS = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.FLAGS)
        cls.addClassCleanup(cls.end)
        cls.first = cls.answer_now()

    @classmethod
    def end(cls):
        peak, bound = (cls.number(f"cake_kv_bytes_{name}") for name in ("peak", "bound"))
        code = cls.server.stop()
        if code != 0 or peak > bound:
            raise AssertionError(f"exit code {code}, K/V memory {peak} of {bound}: {cls.server.errors}")

    @classmethod
    def answer_now(cls):
        status, _, body = cls.server.ask("POST", TEXT, fields(TEXT), cls.HEADERS, timeout=10 * PATIENCE)
        return said(body) if status == 200 else body

    @classmethod
    def number(cls, metric):
        text = cls.server.ask("GET", "/metrics", headers=cls.HEADERS)[2].decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(re.escape(metric) + "[{ ]", line))

    def ask(self, method, path, body=None, headers=None, **options):
        return self.server.ask(method, path, body, {**self.HEADERS, **(headers or {})}, **options)

    def good(self, path, body):
        status, _, answer = self.ask("POST", path, body)
        self.assertEqual(status, 200, answer)
        return answer

    def say(self, path, *question, **more):
        """Returns the text of an answer."""
        return said(self.good(path, fields(path, *question, **more)))

    def stream(self, path, body):
        """Returns all chunks of a stream, which must be well formed."""
        status, headers, content = self.ask("POST", path, {**body, "stream": True})
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        lines = content.split(b"\n")
        self.assertEqual(lines[-3:], [b"data: [DONE]", b"", b""])
        return list(events(lines))

    def assert_error(self, answer, status, *words, param=None, code=None):
        """Checks that an answer is an error in the shape of the OpenAI API."""
        got, headers, body = answer
        self.assertEqual(got, status, body)
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual((set(body), set(body["error"])), ({"error"}, {"message", "type", "param", "code"}))
        error = body["error"]
        self.assertRegex(error["message"], r"\A[^\n]{10,1000}\Z")
        self.assertRegex(error["type"], r"\A[a-z_]+_error\Z")
        self.assertEqual((error["param"], error["code"]), (param, code), error["message"])
        for word in words:
            self.assertIn(str(word), error["message"])

    def refuse(self, answer, status, *words, **options):
        self.assert_error(answer, status, *words, **options)
        self.assertEqual(self.answer_now(), self.first, "it does not answer as before")

    def refuse_fields(self, path, more, *words, param=ANY, code=None):
        """Checks that a request is refused with and without streaming. A refused stream does not begin."""
        for stream in (False, True):
            with self.subTest(path=path, stream=stream, **{name: repr(value)[:60] for name, value in more.items()}):
                answer = self.ask("POST", path, {**fields(path), "stream": stream, **more})
                self.refuse(answer, 400, *words, param=param, code=code)
