"""A real, headless Chromium for tests. Without one, a failure in CI, else a loud skip."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.support.requirements import absent

__all__ = ["run_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium has no sandbox as root. The other options disable its requests to its makers.
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
    """Run the Chromium of this machine with a temporary profile."""
    binary = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if binary is None:
        absent("no Chromium, so the console is not: `apt-get install chromium`")
    async with async_playwright() as playwright:
        # Playwright drives this machine's browser, not one that it downloads.
        browser = await playwright.chromium.launch(executable_path=binary, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()
