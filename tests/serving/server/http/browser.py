"""A browser that a test drives: Chromium by chromedriver's own protocol (W3C WebDriver), JSON over HTTP."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to one
TAB, ENTER, SPACE, LEFT, RIGHT, DOWN = "\ue004", "\ue007", " ", "\ue012", "\ue014", "\ue015"
SHIFT_TAB = "\ue008\ue004"


class Browser:
    """One window; `close` ends it."""

    def __init__(self, *, width=1200, height=1000, dark=False):
        """Open a window of so many pixels, which prefers light or dark pages."""
        self._driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
        for line in self._driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                break
        else:
            raise RuntimeError("chromedriver did not start")
        self._address = f"http://127.0.0.1:{found[1]}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        arguments.append("--disable-background-networking")
        chrome = {"binary": CHROMIUM, "args": arguments}
        try:
            session = self._ask("", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": chrome}}})
        except Exception:
            self._driver.kill()
            raise
        self._address += f"/{session['sessionId']}"
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", {"features": [scheme]})

    def _ask(self, path, content=None, method="POST"):
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self._address}{path}", body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def close(self):
        try:
            self._ask("", method="DELETE")
        finally:
            self._driver.terminate()
            self._driver.wait()
            self._driver.stdout.close()

    def command(self, name, parameters):
        """One of Chromium's own (DevTools)."""
        return self._ask("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def go(self, address):
        self._ask("/url", {"url": "about:blank"})  # a change of the fragment alone would load nothing
        self._ask("/url", {"url": address})

    def run(self, script, *arguments):
        """What a script returns; a promise is waited for."""
        return self._ask("/execute/sync", {"script": script, "args": list(arguments)})

    def type(self, selector, keys):
        """Type into an element, or give a file's path to one that takes files."""
        element = self._ask("/element", {"using": "css selector", "value": selector})[ELEMENT]
        self._ask(f"/element/{element}/value", {"text": keys})

    def click(self, selector):
        element = self._ask("/element", {"using": "css selector", "value": selector})[ELEMENT]
        self._ask(f"/element/{element}/click", {})

    def press(self, keys):
        """Press keys, whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        if keys == SHIFT_TAB:
            shift, tab = keys
            order = (("keyDown", shift), ("keyDown", tab), ("keyUp", tab), ("keyUp", shift))
            actions = [{"type": kind, "value": key} for kind, key in order]
        self._ask("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def focus(self):
        """The id of what has the focus, or the value of a radio button."""
        return self.run("const e = document.activeElement; return e.id || e.value || e.tagName.toLowerCase()")

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def wait(self, script, *arguments):
        """What a script returns, once that is true."""
        end = time.monotonic() + 20
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < end, f"{script}; status: {self.text('#status')}"
            time.sleep(0.05)
        return found

    def wait_for(self, status):
        """Until the page says so, of what it was last asked, and asks no more."""
        self.wait("return document.querySelector('#status').textContent === arguments[0]", status)

    def pixels(self, selector):
        """An image's pixels: (height, width, 4) as nested lists are long, so (width, height, flat RGBA)."""
        return self.run(
            """const image = document.querySelector(arguments[0]), canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.width, canvas.height, Array.from(data)]""",
            selector,
        )

    def screenshot(self, path):
        import base64

        shot = self.command("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))
