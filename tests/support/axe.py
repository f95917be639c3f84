"""Runs axe-core, a checker of accessibility, in a page. npm fetches a fixed version once.

npm takes its registry and proxies from the user's own settings; nothing here names a host.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha512
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from compose.local.kafka_jars import cache_dir
from tests.support.requirements import absent

__all__ = ["axe_source", "violations"]

_VERSION = "4.14.1"
_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
_SECONDS = 120
# All of axe's rules for WCAG 2.2 AA and best practices, and one rule that is off by default.
_RUN = """async (only) => {
    const options = only.length ? { runOnly: { type: "rule", values: only } }
        : { rules: { "label-content-name-mismatch": { enabled: true } } };
    const found = await axe.run(document, { ...options, resultTypes: ["violations"] });
    return found.violations.map((one) => `${one.id}: ${one.help}: `
        + one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(" | "));
}"""


@cache
def axe_source() -> str:
    """Return the script; without a way to fetch it, fail in CI and skip loudly elsewhere."""
    folder = cache_dir() / f"axe-core-{_VERSION}"
    script = folder / "axe.min.js"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may begin at once
        if not script.is_file():
            _fetch(folder, script)
    return script.read_text()


async def violations(page: Page, *, only: Sequence[str] = ()) -> list[str]:
    """Return axe's findings in a page as it is now; by the rules ``only``, or by all."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(f"() => {{ {axe_source()} }}")
    found: list[Any] = await page.evaluate(_RUN, list(only))
    return found


def _fetch(folder: Path, script: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        absent("no npm on the PATH, so the console is not held against axe: `apt-get install npm`")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [npm, "pack", "--silent", "--fetch-retries=1", f"axe-core@{_VERSION}"]
        result = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        if result.returncode != 0:
            absent(f"npm could not fetch axe-core: {(result.stdout + result.stderr).strip()[:300]}")
        (archive,) = Path(scratch).glob("*.tgz")
        assert b64encode(sha512(archive.read_bytes()).digest()).decode() == _SHA512
        with tarfile.open(archive) as packed:
            content = packed.extractfile("package/axe.min.js")
            assert content is not None
            written = Path(scratch) / script.name
            written.write_bytes(content.read())
        written.rename(script)  # atomic: the file is never incomplete
