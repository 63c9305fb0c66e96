"""The page in a real browser: it shows the pair, follows what happens, asks nobody else, in light and dark."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.api.conftest import Served

    Serve = Callable[..., AbstractAsyncContextManager[Served]]

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1200,1000",
)  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A browser with a profile of its own; installed where that can be done."""
    if shutil.which("chromedriver") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["flock", "/tmp/apt.lock", "apt-get", "install", "-y", "chromium", "chromium-driver"],  # noqa: S108
            check=False, capture_output=True, timeout=200,
        )  # fmt: skip
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail("Chromium cannot be installed")
        pytest.skip("Chromium is not there (Debian packages chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield made
    finally:
        made.quit()


def shown_by(browser: Any, selector: str) -> str:
    """Return the text of every element that is selected."""
    return " ".join(one.text for one in browser.find_elements(By.CSS_SELECTOR, selector))


async def until(browser: Any, selector: str, text: str) -> None:
    """Return when the element shows the text. Raises TimeoutError with what it shows instead."""
    shown = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(40):
            while text not in shown:
                await asyncio.sleep(0.1)
                shown = await asyncio.to_thread(shown_by, browser, selector)
    assert text in shown


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_page_shows_the_pair_live(serve: Serve, browser: Any, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    async with serve() as served:
        leader = served.leader
        await asyncio.to_thread(browser.execute_cdp_cmd, "Emulation.setEmulatedMedia", media)
        await asyncio.to_thread(browser.get, served.plain[leader])
        await until(browser, f"#node-{leader} .role", "leader")
        await until(browser, f"#node-{1 - leader} .role", "follower")
        await until(browser, "#risks", "Nothing is at risk")
        await until(browser, "#live", "live")
        served.nodes[leader].ports.history.append("test", "<b>shown as text</b>")
        await until(browser, "#events li .said", "<b>shown as text</b>")
        served.pair.power_off(1 - leader)
        await until(browser, "#risks", "on this node alone")
        await until(browser, f"#node-{1 - leader} .role", "not heard")
        back = await asyncio.to_thread(browser.execute_script, "return getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(15, 20, 25)") is (scheme == "dark")
        asked = await asyncio.to_thread(
            browser.execute_script, "return performance.getEntriesByType('resource').map((one) => one.name)"
        )
        assert asked
        assert all(one.startswith(served.plain[leader]) for one in asked)
        said = await asyncio.to_thread(browser.get_log, "browser")
        assert not [one for one in said if "favicon" not in one["message"]], said
        await asyncio.to_thread(browser.get, "about:blank")
