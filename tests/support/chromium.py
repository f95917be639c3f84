"""A real, headless Chromium for tests. Without one, a failure in CI, else a loud skip."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.support.requirements import absent

__all__ = ["run_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# As root there is no sandbox; and nothing that would call home.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def run_chromium() -> AsyncIterator[Browser]:
    """Run the Chromium of this machine; its profile is a folder of its own, removed afterwards."""
    binary = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if binary is None:
        absent("no Chromium, so the console is not: `apt-get install chromium`")
    async with async_playwright() as playwright:
        # Playwright's own download is not used: it drives the browser that is there.
        browser = await playwright.chromium.launch(executable_path=binary, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()
