"""Drives a headless Chromium over its DevTools protocol, without a library and only as far as the tests need it."""

import base64
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "Home": 36, "End": 35, "ArrowLeft": 37, "ArrowRight": 39}
SHIFT = 8


class WebSocket:
    """The client side of RFC 6455, for whole text messages and a trusted server."""

    def __init__(self, url):
        at = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((at.hostname, at.port), timeout=120)
        self.file = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        if b" 101 " not in self.file.readline():
            raise ConnectionError("no websocket")
        while self.file.readline() not in (b"\r\n", b""):
            continue

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        n = len(data)
        length = bytes([0x80 | n]) if n < 126 else struct.pack(">BH", 0xFE, n) if n < 1 << 16 else struct.pack(">BQ", 0xFF, n)
        masks = int.from_bytes((mask * (n // 4 + 1))[:n], "big")
        self.socket.sendall(b"\x81" + length + mask + (int.from_bytes(data, "big") ^ masks).to_bytes(n, "big"))

    def receive(self):
        message, is_last = b"", False
        while not is_last:
            first, second = self.read(2)
            n = second & 0x7F
            if n >= 126:
                n = int.from_bytes(self.read(2 if n == 126 else 8), "big")
            data = self.read(n)
            if first & 0x0F <= 1:  # a text frame or its continuation
                message, is_last = message + data, bool(first & 0x80)
        return message.decode()

    def read(self, n):
        data = self.file.read(n)
        if len(data) < n:
            raise ConnectionError("the browser closed the connection")
        return data

    def close(self):
        self.file.close()
        self.socket.close()


class Browser:
    """A browser with one page."""

    def __init__(self, program):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cake-browser-"))
        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-port=0",
             f"--user-data-dir={self.folder}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self.folder)})
        self.socket, self.n_calls, self.urls, self.complaints = None, 0, [], []
        try:
            self.socket = WebSocket(self.page_url())
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def page_url(self):
        file, end = self.folder / "DevToolsActivePort", time.monotonic() + 60
        while not (file.exists() and "\n" in file.read_text()):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the browser did not start")
            time.sleep(0.05)
        port = file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=60) as targets:
            return next(target["webSocketDebuggerUrl"] for target in json.load(targets) if target["type"] == "page")

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, **params):
        self.n_calls += 1
        self.socket.send(json.dumps({"id": self.n_calls, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.receive())
            if message.get("id") == self.n_calls:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.note(message.get("method"), message.get("params", {}))

    def note(self, event, params):
        if event == "Network.requestWillBeSent":
            self.urls.append(params["request"]["url"])
        elif event == "Log.entryAdded":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(" ".join(str(argument.get("value")) for argument in params["args"]))

    def news(self):
        """Returns the console messages and the requested URLs since the last call."""
        self.run("null")
        complaints, urls, self.complaints, self.urls = self.complaints, self.urls, [], []
        return complaints, urls

    def run(self, expression):
        """Evaluates an expression and returns its value. A promise is awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, seconds=30):
        """Waits until an expression is true and returns its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression}; the page says: {self.run('document.body.innerText')[:2000]}")
            time.sleep(0.02)
        return value

    def view(self, width, height, dark=False):
        """Sets the size of the page and its colour scheme, and disables animations."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"}])

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, modifiers=0):
        of_key = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **of_key, **({"text": "\r"} if key == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **of_key)

    def click(self, selector):
        x, y = self.run(f"""(() => {{
            const node = document.querySelector({json.dumps(selector)});
            node.scrollIntoView({{block: "nearest"}});
            const at = node.getBoundingClientRect();
            return [at.x + at.width / 2, at.y + at.height / 2];
        }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, file):
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
