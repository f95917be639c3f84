"""Run a script that sees files of ours in /etc, such as ``hosts`` and ``resolv.conf``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.requirements import absent, program

__all__ = ["printed_with"]

_SECONDS = 60.0


async def printed_with(
    files: Mapping[str, str],
    script: str,
    *arguments: str,
    folder: Path,
    own_network: bool = False,
) -> bytes:
    """Return what a Python script prints, standard error included.

    ``files``: by their names in /etc, the texts that the script sees there; kept in ``folder``.
    ``own_network``: whether the script has a network of its own, without interfaces that are up.
    """
    for name, text in files.items():
        (folder / name).write_text(text)
    unshare = program("unshare", package="util-linux")
    namespaces = ["--mount", "--map-root-user", *(["--net"] if own_network else [])]
    mounted = "".join(f'mount --bind "$1/{name}" /etc/{name} && ' for name in files)
    running = await asyncio.create_subprocess_exec(
        *(unshare, *namespaces),
        *("sh", "-c", f'{mounted} shift && exec "$@"', "sh", str(folder)),
        *(sys.executable, "-c", script, *arguments),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(running.communicate(), _SECONDS)
    if b"unshare:" in output or b"mount:" in output:
        absent(f"namespaces of our own: {output.decode()}")
    return output
