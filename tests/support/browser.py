"""A real Chromium for the tests of the pages, driven by Selenium, with what they share."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from harness import ROOT

SCREENSHOTS = ROOT / "build" / "screenshots"
REQUIRED = os.environ.get("BROWSER_TESTS") == "1"  # set by .ci/run: there, a missing browser is a failure
PATIENCE = 120.0  # seconds, for machines with other things to do
OPTIONS = [
    "--headless",
    "--no-sandbox",  # which Chromium wants as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-color-profile=srgb",
]

# When each new value of a progress bar is on screen, and whether the first and the last row of the canvas are drawn.
WATCH_PROGRESS = """
window.watching?.forEach((each) => each.disconnect());
window.seen = [];
window.ended = false;
window.watching = [];
const drawn = (canvas, y) => canvas.getContext("2d").getImageData(canvas.width >> 1, y, 1, 1).data[3] > 0;
const watch = (look, attribute) => {
  const one = new MutationObserver(look);
  one.observe(document.getElementById("jobs"), { attributes: true, subtree: true, attributeFilter: [attribute] });
  watching.push(one);
};
watch(() => {
  const canvas = document.querySelector("#after canvas"), bar = document.querySelector(".job progress[value]");
  if (!canvas || !bar || seen.at(-1)?.value === bar.value) return;
  seen.push({ value: bar.value, first: drawn(canvas, 0), last: drawn(canvas, canvas.height - 1) });
}, "value");
watch(() => {
  if (document.querySelector("[data-state=done]")) window.ended = true;
}, "data-state");
"""


def find_browser() -> tuple[str, str]:
    """Paths of the browser and its driver; without them the test is skipped, or fails where it is required."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    why = "no Chromium with its driver here (Debian: apt-get install chromium chromium-driver)"
    if REQUIRED:
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def running_browser(downloads: Path) -> Iterator["Browser"]:
    binary, driver = find_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(chrome, downloads)
    finally:
        chrome.quit()


class Browser:
    """One tab. ``url`` of every page is given in full."""

    def __init__(self, chrome: webdriver.Chrome, downloads: Path) -> None:
        self.chrome, self.downloads = chrome, downloads
        chrome.set_script_timeout(PATIENCE)

    def open(self, url: str, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """A fresh page in a window of that size, and an empty log. Under 500 pixels it is a phone."""
        phone = width < 500
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.chrome.get(url)
        self.chrome.get_log("browser")

    def find(self, selector: str) -> WebElement:
        return self.chrome.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def click(self, selector: str) -> None:
        self.script("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })", selector)
        self.find(selector).click()

    def fill(self, selector: str, value: str) -> None:
        """Gives a field its value as a user would: with the events of it."""
        self.script(
            "const [at, value] = arguments; const field = document.querySelector(at); field.value = value;"
            "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, { bubbles: true }));",
            selector,
            value,
        )

    def script(self, code: str, *arguments: object) -> Any:
        return self.chrome.execute_script(code, *arguments)

    def run(self, code: str, *arguments: object) -> Any:
        """The value of asynchronous JavaScript, in which ``arguments`` are ``given``."""
        return self.chrome.execute_async_script(
            "const given = [...arguments], done = given.pop();"
            f"(async () => {{ {code} }})().then(done, (error) => done('ERROR ' + error));",
            *arguments,
        )

    def wait(self, condition: Callable[[], object], seconds: float = PATIENCE) -> Any:
        """Polls until the condition is true, and gives its value."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, f"waited in vain; the page says: {self.text('body')[:2000]}"
            time.sleep(0.05)
        return value

    def shoot(self, name: str) -> None:
        """Keeps a picture of the window, for people to look at; a machine too busy for one does without."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        with suppress(TimeoutException):
            self.chrome.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def complaints(self) -> list[str]:
        """What the browser's console has to say since the page was opened, such as a breach of the page's policy."""
        return [entry["message"] for entry in self.chrome.get_log("browser") if entry["level"] == "SEVERE"]

    def violations(self) -> list[str]:
        """What axe-core finds wrong for people with disabilities, if it is serious or worse."""
        axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.script(f"if (!window.axe) {{ {axe} }}")
        found = self.run("return (await axe.run(document, { resultTypes: ['violations'] })).violations")
        assert isinstance(found, list), found
        return [
            f"{each['id']}: {each['help']}: {[node['html'][:120] for node in each['nodes']]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
