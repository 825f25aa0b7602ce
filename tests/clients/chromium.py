"""Drives Debian's Chromium by its own protocol, over a WebSocket: no driver has to be fetched."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time

from websockets.sync.client import connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
LONGEST = 120
KEYS = {
    "Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "ArrowRight": ("ArrowRight", 39, ""), "ArrowLeft": ("ArrowLeft", 37, ""),
    " ": ("Space", 32, " "), "End": ("End", 35, ""), "Home": ("Home", 36, ""),
}  # fmt: skip


class Page:
    """One tab: what it asked for, what went wrong in it, and hands on its mouse and keyboard."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests, self.errors, self.logs = [], [], []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(LONGEST))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message):
        method, about = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(about["exceptionDetails"]["exception"].get("description", "exception"))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(about["args"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] == "log":
            self.logs += [argument.get("value") for argument in about["args"]]

    def run(self, expression):
        """The value of an expression, as JSON has it; a promise is awaited."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression):
        """Wait until an expression is true; returns its value."""
        deadline = time.monotonic() + LONGEST
        while not (value := self.run(expression)):
            assert time.monotonic() < deadline, (
                f"never: {expression}; {self.errors}; {self.run('document.body.innerText')}"
            )
            time.sleep(0.05)
        return value

    def open(self, url):
        """Load a page afresh, even where only what is behind # differs."""
        self.send("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.send("Page.navigate", url=url)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def mouse(self, kind, x, y, **more):
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1, **more)

    def click_at(self, x, y):
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, buttons=1)
        self.mouse("mouseReleased", x, y)

    def drag(self, start, end):
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, buttons=1)
        for part in range(1, 6):
            place = (a + (b - a) * part / 5 for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", *place, buttons=1)
        self.mouse("mouseReleased", *end)

    def click(self, selector):
        """Click the middle of an element, as a hand would."""
        found = json.dumps(selector)
        self.run(f"document.querySelector({found}).scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(() => {{const b = document.querySelector({found}).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]}})()"
        )
        self.click_at(*box)

    def press(self, key, shift=False):
        code, number, text = KEYS[key]
        about = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 if shift else 0}
        self.send("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def picture(self):
        """The PNG file of what is seen."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def size(self, width, height, *, phone=False):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    def scheme(self, name):
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])


@contextlib.contextmanager
def chromium(directory, width=1400, height=1000):
    """Run a browser that keeps all it keeps in a new `directory`; gives its one page."""
    command = [
        PROGRAM,
        *OPTIONS,
        f"--user-data-dir={directory}",
        f"--window-size={width},{height}",
        "about:blank",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + LONGEST
            port = directory / "DevToolsActivePort"
            while not (port.exists() and port.read_text().count("\n")):
                assert process.poll() is None, "Chromium did not start"
                assert time.monotonic() < deadline, "Chromium did not start"
                time.sleep(0.05)
            number, path = port.read_text().splitlines()[:2]
            base = f"ws://127.0.0.1:{number}"
            # a busy browser may be late with its answer to a ping
            patient = {"max_size": None, "open_timeout": LONGEST, "ping_interval": None}
            with connect(f"{base}{path}", **patient) as browser:
                browser.send(
                    json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}})
                )
                target = json.loads(browser.recv(LONGEST))["result"]["targetId"]
            with connect(f"{base}/devtools/page/{target}", **patient) as socket:
                page = Page(socket)
                page.size(width, height)
                yield page
        finally:
            process.terminate()
