"""A headless Chromium with a site before it, in a network namespace that leads nowhere.

Speaks the Chrome DevTools Protocol over a pipe (`--remote-debugging-pipe`: JSON texts, each ended
by a zero byte). The server of the site and the browser are alone in that namespace with its
loopback: what a page asks of another machine fails, and is seen.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

ORIGIN = "http://127.0.0.1:8000"
SECONDS = 30
"""How long anything may take that a page does."""
QUIET_SECONDS = 0.25
"""Silence after which nothing more is expected of a page."""

_T = TypeVar("_T")

# Runs inside: loopback, server, and then the browser in its place, with the pipe as 3 and 4.
_INSIDE = """
import fcntl, os, subprocess, sys
commands, answers, site, *browser = sys.argv[1:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", site, "8000"]
subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 20) for end in (commands, answers)]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number, inheritable=True)
os.execvp(browser[0], browser)
"""
_ALONE = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
_OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


def missing() -> str | None:
    """Why there can be no browser on this computer, or None."""
    if not program():
        return "there is no Chromium on this computer (Debian: apt-get install chromium)"
    alone = subprocess.run(
        [*_ALONE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False
    )
    if alone.returncode != 0:
        return f"no network namespace can be made here: {alone.stderr.decode().strip()}"
    return None


def program() -> str | None:
    """The browser's program."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


class Page:
    """One tab. What it asks for and complains of is kept until the next `open`."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser = browser
        self._session = session
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.ask(f"{domain}.enable")
        self.ask("Page.setLifecycleEventsEnabled", enabled=True)
        # The search has a worker, whose requests are seen in a session of its own.
        self.ask("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    def ask(self, method: str, **parameters: Any) -> Any:
        """The answer to a command."""
        return self._browser.ask(method, parameters, self._session)

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has loaded and is quiet. Raises TimeoutError."""
        self.settle()
        self.requests, self.complaints = [], []
        loader = self.ask("Page.navigate", url=url)["loaderId"]
        self.until(lambda: {"name": "load", "loaderId": loader} in self._life(), f"{url} is loaded")
        self.settle()

    def settle(self) -> None:
        """Wait for a moment of silence, and take down what was asked for and complained of."""
        while self._browser.receive(QUIET_SECONDS):
            pass
        for event in self._browser.events:
            method, told = event["method"], event["params"]
            if method == "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            elif method == "Network.responseReceived" and told["response"]["status"] >= 400:
                self.complaints.append(f"{told['response']['status']} {told['response']['url']}")
            elif method == "Network.loadingFailed" and not told.get("canceled"):
                self.complaints.append(f"not loaded: {told['errorText']}")
            elif method == "Runtime.exceptionThrown":
                self.complaints.append(str(told["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
                self.complaints.append(f"console: {told['args']}")
            elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
                self.complaints.append(f"log: {told['entry']['text']} {told['entry'].get('url')}")
        self._browser.events.clear()

    def _life(self) -> list[dict[str, str]]:
        """What has happened to documents of this tab, like `load`."""
        return [
            {key: event["params"][key] for key in ("name", "loaderId")}
            for event in self._browser.events
            if event["method"] == "Page.lifecycleEvent"
        ]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def type(self, text: str) -> None:
        """Press a key for each letter."""
        for letter in text:
            for event in ({"type": "keyDown", "text": letter}, {"type": "keyUp"}):
                self.ask("Input.dispatchKeyEvent", key=letter, **event)

    def diagrams(self) -> list[list[str]]:
        """The roles of each diagram's SVG elements, also in the theme's closed shadow roots."""
        root = self.ask("DOM.getDocument", depth=-1, pierce=True)["root"]
        return [
            [_attribute(drawing, "aria-roledescription") for drawing in _elements(holder, "svg")]
            for holder in _elements(root)
            if "mermaid" in _attribute(holder, "class").split()
        ]

    def picture(self, path: Path, width: int = 1300, height: int = 900) -> None:
        """A screenshot, as PNG."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        time.sleep(0.5)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def until(self, condition: Callable[[], _T], what: str = "") -> _T:
        """The first value of `condition` that counts as true. Raises TimeoutError."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            self._browser.receive(0.1)
        raise TimeoutError(f"{what or condition}: not within {SECONDS} s; {self._browser.events}")


class Browser:
    """A running browser; `start` makes one."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._buffer = b""
        self._number = 0
        self._replies: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def page(self) -> Page:
        """A tab of its own."""
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})
        return Page(self, attached["sessionId"])

    def ask(self, method: str, parameters: dict[str, Any], session: str | None = None) -> Any:
        """The answer to a command. Raises TimeoutError, or AssertionError where it is an error."""
        number = self._send(method, parameters, session)
        end = time.monotonic() + SECONDS
        while number not in self._replies:
            if time.monotonic() > end:
                raise TimeoutError(f"{method}: no answer within {SECONDS} s")
            self.receive(0.1)
        reply = self._replies.pop(number)
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    def receive(self, seconds: float) -> bool:
        """Take what comes, if anything comes within so many seconds; returns whether it did."""
        if not select.select([self._answers], [], [], seconds)[0]:
            return False
        received = os.read(self._answers, 1 << 20)
        if not received:
            raise EOFError("the browser has ended")
        *messages, self._buffer = (self._buffer + received).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._replies[message["id"]] = message
                continue
            self.events.append(message)
            if message["method"] == "Target.attachedToTarget" and "sessionId" in message:
                worker = message["params"]["sessionId"]
                for method in (
                    "Network.enable",
                    "Runtime.enable",
                    "Runtime.runIfWaitingForDebugger",
                ):
                    self._send(method, {}, worker)
        return True

    def _send(self, method: str, parameters: dict[str, Any], session: str | None) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        return self._number


@contextlib.contextmanager
def start(site: Path, profile: Path) -> Iterator[Browser]:
    """A browser that has `site` at ORIGIN, with its own files in the folder `profile`."""
    theirs, commands = os.pipe()
    answers, theirs_too = os.pipe()
    chromium = program()
    assert chromium
    argv = [*_ALONE, sys.executable, "-c", _INSIDE, str(theirs), str(theirs_too), str(site)]
    process = subprocess.Popen(
        [*argv, chromium, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(theirs, theirs_too),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(profile.parent / "browser.log").open("wb"),
    )
    os.close(theirs)
    os.close(theirs_too)
    try:
        yield Browser(commands, answers)
    finally:
        process.kill()  # and with it, by --kill-child, everything in its namespace
        process.wait()
        os.close(commands)
        os.close(answers)


def _elements(node: dict[str, Any], name: str = "") -> Iterator[dict[str, Any]]:
    """Elements below a node, also those in shadow roots."""
    for child in (*node.get("children", ()), *node.get("shadowRoots", ())):
        if child.get("localName") and name in ("", child["localName"]):
            yield child
        yield from _elements(child, name)


def _attribute(node: dict[str, Any], name: str) -> str:
    pairs = node.get("attributes", [])
    return str(dict(zip(pairs[::2], pairs[1::2], strict=True)).get(name, ""))
