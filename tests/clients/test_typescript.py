"""The TypeScript client: compiled, then its own tests run against the real service."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import web

import crossfade
from compose.local.ports import free_port

from .conftest import API_KEY, PRODUCER_KEY, ROOT, Site

_POISON = "ALTER TABLE messages ADD CONSTRAINT no_poison CHECK (content <> 'poison')"
_NO_POISON = "ALTER TABLE messages DROP CONSTRAINT no_poison"


@pytest_asyncio.fixture
async def control(site: Site) -> AsyncIterator[str]:
    """The address of a server that does to the service what a test in another process asks for."""

    async def act(request: web.Request) -> web.Response:
        argument = request.query.get("argument", "")
        return web.json_response(await _act(site, request.match_info["action"], argument))

    app = web.Application()
    app.router.add_get("/{action}", act)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def _act(site: Site, action: str, argument: str) -> object:
    actions: dict[str, Callable[[], Any]] = {
        "lose": lambda: site.front.lose_reply_to(argument.encode()),
        "hold": lambda: site.front.hold(argument.encode()),
        "held": site.front.held.wait,
        "black-hole": site.front.black_hole,
        "log-away": lambda: (site.log.refuse(), site.log.reset()),
        "heal": lambda: (site.front.heal(), site.log.heal()),
        "restart": lambda: _restart(site),
        "rows": lambda: site.rows(*json.loads(argument)),
        "poison": lambda: site.pool.execute(_POISON if argument == "on" else _NO_POISON),
        "errors": _errors,
        "port": free_port,
    }
    done = actions[action]()
    return await done if isawaitable(done) else done


def _errors() -> list[str]:
    kinds = {name: getattr(crossfade, name) for name in crossfade.__all__}
    return [name for name, kind in kinds.items() if issubclass(kind, Exception)]


async def _restart(site: Site) -> None:
    await site.service.kill()
    await site.service.start()


async def test_its_tests_pass_against_the_service(compiled: Path, control: str, site: Site) -> None:
    names = {
        "CROSSFADE_URL": site.url,
        "CROSSFADE_API_KEY": API_KEY,
        "PRODUCER_KEY": PRODUCER_KEY,
        "CROSSFADE_CONTROL": control,
        "PATH": os.environ["PATH"],
    }
    files = ("test/client.test.mjs", "test/retry.test.mjs")
    code, said = await _node(compiled, names, "--test", "--test-reporter=tap", *files)
    assert code == 0, said
    assert int(re.findall(r"^# pass (\d+)$", said, re.MULTILINE)[0]) > 40
    assert "# skipped 0" in said


async def test_the_program_in_its_readme_runs(compiled: Path, site: Site, tmp_path: Path) -> None:
    (source,) = re.findall(r"```ts\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    source = source.replace('"@crossfade/client"', f'"{(compiled / "dist/index.js").as_uri()}"')
    page = tmp_path / "page.mjs"
    page.write_text(source.replace("http://localhost:3000", site.url), "utf-8")
    names = {"CROSSFADE_API_KEY": API_KEY, "PATH": os.environ["PATH"]}
    code, said = await _node(tmp_path, names, str(page))
    assert code == 0, said
    assert await site.rows("order-9", 301) == ["Hello", *(f"line {n}" for n in range(300))]


async def _node(folder: Path, names: dict[str, str], *arguments: str) -> tuple[int, str]:
    running = await asyncio.create_subprocess_exec(
        "node",
        *arguments,
        cwd=folder,
        env=names,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await running.communicate()
    assert running.returncode is not None
    return running.returncode, said.decode()


def test_nothing_names_a_registry() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    assert "dependencies" not in package
    assert all(
        re.fullmatch(r"\d+\.\d+\.\d+", devDependency)
        for devDependency in package["devDependencies"].values()
    )
    assert not (ROOT / "package-lock.json").exists()
    assert "package-lock=false" in (ROOT / ".npmrc").read_text()
