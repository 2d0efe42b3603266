"""Jobs on the page, in a real browser: handed in, seen again after a reload, fetched, forgotten."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.server import Server, quick_server
from tests.support.browser import Browser
from tests.support.page import choose, save


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Server]:
    with quick_server(jobs=str(folder / "kept")) as running:
        yield running


def states(browser: Browser) -> list[str]:
    found = browser.script("return [...document.querySelectorAll('#kept-list .job')].map((job) => job.dataset.state)")
    return list(map(str, found))


def test_a_job_survives_a_reload_and_is_fetched_and_forgotten(browser: Browser, service: Server, folder: Path) -> None:
    picture = save(folder / "a.png", np.random.default_rng(5).integers(0, 256, (30, 40, 3), np.uint8))
    browser.open(service.url)
    choose(browser, picture)
    browser.wait(lambda: browser.find("#later").is_displayed())
    browser.script("document.getElementById('model').value = 'bicubic'")
    browser.find("#later").click()
    browser.wait(lambda: states(browser) == ["succeeded"])
    assert not browser.script("return document.querySelectorAll('#jobs .job').length")
    browser.open(service.url)
    browser.wait(lambda: states(browser) == ["succeeded"])
    sizes = browser.run(
        "const link = document.querySelector('#kept-list [data-act=download]');"
        "const image = new Image(); image.src = link.href; await image.decode();"
        "return [image.naturalWidth, image.naturalHeight]"
    )
    assert sizes == [160, 120]
    browser.find("#kept-list [data-act=forget]").click()
    browser.wait(lambda: not states(browser))
    assert not browser.find("#kept").is_displayed()
    browser.open(service.url)
    browser.wait(lambda: browser.find("#later").is_displayed())
    assert not states(browser)


def test_without_jobs_nothing_of_it_is_shown(browser: Browser, server: Server) -> None:
    browser.open(server.url)
    browser.wait(lambda: browser.script("return document.getElementById('model').options.length"))
    assert not browser.find("#later").is_displayed()
    assert not browser.find("#kept").is_displayed()
