"""The pages of a service with keys: they ask for one, and for a study an invitation in its link is enough."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import skimage.data
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.support.ui import WebDriverWait

from harness.server import Server, quick_server
from tests.support.browser import PATIENCE, Browser, running_browser
from tests.support.page import choose, save, settled


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("study")
    save(folder / "cat.png", skimage.data.chelsea()[60:124, 100:164])
    with quick_server(api_keys="good-key", study=str(folder), study_invitation="come-in") as server:
        yield server


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    with running_browser(tmp_path) as browser:
        yield browser


def answer_prompt(browser: Browser, text: str) -> str:
    """What the page has asked, once it was answered."""

    def shown(chrome: object) -> object:
        try:
            return browser.chrome.switch_to.alert
        except NoAlertPresentException:
            return None

    alert = WebDriverWait(browser.chrome, PATIENCE).until(shown)
    asked = str(alert.text)
    alert.send_keys(text)
    alert.accept()
    return asked


def test_the_page_asks_for_the_key_until_it_is_right(guarded: Server, tab: Browser, tmp_path: Path) -> None:
    picture = save(tmp_path / "small.png", skimage.data.chelsea()[:20, :24])
    tab.chrome.get(guarded.url)
    assert "needs a key" in answer_prompt(tab, "wrong-key")
    tab.chrome.get(guarded.url)
    assert "not accepted" in answer_prompt(tab, "good-key")
    choose(tab, picture)
    tab.fill("#model", "bicubic")
    tab.click("#go")
    assert settled(tab) == "done"
    tab.open(guarded.url)  # a reload asks no more
    tab.wait(lambda: tab.script("return document.getElementById('model').options.length"))


def test_the_link_of_a_study_carries_its_invitation(guarded: Server, tab: Browser) -> None:
    tab.open(f"{guarded.url}/study?invitation=come-in")
    tab.click("#begin")
    tab.wait(lambda: tab.script("return document.getElementById('picture').naturalWidth") == 64)
    tab.find("body").send_keys("5")
    tab.wait(lambda: tab.text("#position").startswith("Picture 2 of"))
    tab.wait(lambda: tab.script("return document.getElementById('picture').naturalWidth") == 64)
    assert not tab.violations()
