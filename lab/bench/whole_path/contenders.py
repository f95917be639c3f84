"""The measured services: ours in several modes, another checkout, and the baselines."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import msgspec

from lab.bench.processes import (
    ROOT,
    Running,
    crossfade,
    go_service,
    python_of,
    uvicorn_app,
)
from lab.bench.stand import Stand
from persistence.migrate import upgrade

__all__ = ["CONTENDERS", "Contender", "other_checkout"]

Environment = Mapping[str, str]


class Contender(msgspec.Struct, kw_only=True, frozen=True):
    """One service that takes ``POST /api/messages`` and inserts into ``messages``."""

    name: str
    start: Callable[[Path, dict[str, str]], AbstractAsyncContextManager[Running]]
    """Runs it in a folder, with the given settings."""
    settings: Environment = {}
    needs: Callable[[], object] = lambda: True
    """Returns whether its requirements are on this machine."""
    checkout: Path = ROOT
    """The checkout whose migrations make the tables."""

    async def database(self, stand: Stand) -> str:
        """Return the URL of a new database with the checkout's tables."""
        if self.checkout not in stand.templates:
            template = f"source{len(stand.templates)}"
            url = await stand.postgres.create_database(template)
            await self._migrate(url)
            stand.templates[self.checkout] = template
        return await stand.new_database(template=stand.templates[self.checkout])

    async def _migrate(self, url: str) -> None:
        if self.checkout == ROOT:
            await upgrade(url)
            return
        process = await asyncio.create_subprocess_exec(
            python_of(self.checkout), "-c", "from compose.cli import main; main()", "db", "upgrade",
            env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(self.checkout)},
            cwd=self.checkout, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if await process.wait():
            raise RuntimeError(f"{self.checkout} could not migrate its database")


def _serve(checkout: Path, *options: str) -> Callable[..., AbstractAsyncContextManager[Running]]:
    def start(folder: Path, environment: dict[str, str]) -> AbstractAsyncContextManager[Running]:
        return crossfade("serve", folder, environment, checkout=checkout, options=options)

    return start


def other_checkout(path: Path) -> Contender:
    """Return the service of another checkout, run in that checkout's ``.venv``."""
    path = path.resolve()
    return Contender(name=path.name, start=_serve(path), checkout=path)


def _uvicorn(module: str) -> Callable[..., AbstractAsyncContextManager[Running]]:
    return partial(uvicorn_app, f"lab.bench.baselines.{module}:app")


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(name="crossfade", start=_serve(ROOT)),
        Contender(name="crossfade direct", start=_serve(ROOT), settings={"INGRESS_MODE": "direct"}),
        Contender(
            name="crossfade, workers apart",
            start=_serve(ROOT, "--processes", "1", "--workers", "1"),
        ),
        Contender(name="go", start=go_service, needs=lambda: shutil.which("go")),
        Contender(name="fastapi", start=_uvicorn("usual_fastapi")),
        Contender(name="fastapi row per post", start=_uvicorn("fastapi_row_per_post")),
        Contender(
            name="faststream",
            start=_uvicorn("faststream_service"),
            needs=lambda: importlib.util.find_spec("faststream"),
        ),
    )
}
"""The services by name. ``fastapi`` has one Lua call per request and a drain loop that reads ahead.
"""
