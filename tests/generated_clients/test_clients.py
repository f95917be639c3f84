"""Clients as a current generator makes them: generated, compiled, and run against the service.

``make test`` runs the one that an older generator makes for Python; ``make generated-clients`` all.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from compose.local.kafka_jars import cache_dir, find_java
from tests.generated_clients.conftest import Served
from tests.generated_clients.contract import check
from tests.generated_clients.generator import CURRENT, OLD, generate, run
from tests.support.npm import NotFetchedError, fetched_packages
from tests.support.requirements import absent, program

PROGRAMS = Path(__file__).with_name("programs")
_SECONDS = 120
_TYPESCRIPT = ("typescript@5.9.3", "@types/node@20.19.25")
_TSCONFIG = """{"compilerOptions": {"target": "es2022", "module": "nodenext", "strict": true,
"noUncheckedIndexedAccess": true, "outDir": "built", "typeRoots": ["@types@"], "types": ["node"]},
"include": ["main.ts", "client"]}"""

pytestmark = pytest.mark.timeout(600)
generated = pytest.mark.generated


async def _holds(served: Served, command: list[str], **environment: str) -> None:
    """Run the program and check what it understood."""
    process = await asyncio.create_subprocess_exec(
        *command, served.url, served.key, f"generated-{uuid4()}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip
    async with asyncio.timeout(_SECONDS):
        said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    check(said.decode())


@pytest.mark.parametrize("version", [OLD, pytest.param(CURRENT, marks=generated)])
async def test_the_client_for_python(served: Served, tmp_path: Path, version: str) -> None:
    options = ("-g", "python", "--package-name", "crossfade_client")
    generate(served.document, tmp_path / "client", *options, version=version)
    command = [sys.executable, str(PROGRAMS / "main.py")]
    await _holds(served, command, PYTHONPATH=str(tmp_path / "client"))


@generated
async def test_the_client_for_typescript(served: Served, tmp_path: Path) -> None:
    node = program("node", package="nodejs")
    try:
        tools = fetched_packages(cache_dir(), "typescript", _TYPESCRIPT)
    except NotFetchedError as error:
        absent(f"TypeScript: {error}")
    generate(
        served.document, tmp_path / "client", "-g", "typescript-fetch",
        "--additional-properties", "importFileExtension=.js",
    )  # fmt: skip
    shutil.copy(PROGRAMS / "main.ts", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    types = str(tools.parent / "@types")
    (tmp_path / "tsconfig.json").write_text(_TSCONFIG.replace("@types@", types))
    run([str(tools / "tsc"), "--project", "."], tmp_path)
    await _holds(served, [node, str(tmp_path / "built" / "main.js")])


@generated
async def test_the_client_for_go(served: Served, tmp_path: Path) -> None:
    go = program("go", package="golang")
    folder = tmp_path / "client"
    generate(
        served.document, folder, "-g", "go", "--package-name", "client",
        "--git-host", "example.com", "--git-user-id", "crossfade", "--git-repo-id", "client",
    )  # fmt: skip
    (folder / "run").mkdir()
    shutil.copy(PROGRAMS / "main.go", folder / "run")
    run([go, "mod", "tidy"], folder)
    run([go, "vet", "./..."], folder)
    run([go, "build", "-o", "program", "./run"], folder)
    await _holds(served, [str(folder / "program")])


@generated
async def test_the_client_for_java(served: Served, tmp_path: Path) -> None:
    maven = program("mvn", package="maven")
    java = find_java()
    folder = tmp_path / "client"
    generate(served.document, folder, "-g", "java", *_JAVA, "--library", "native")
    run([maven, "-B", "-q", "compile", *_CLASSPATH], folder)
    path = f"{folder / 'target' / 'classes'}:{(folder / 'classpath').read_text()}"
    run([str(java.tool("javac")), "-cp", path, "-d", ".", str(PROGRAMS / "Main.java")], tmp_path)
    await _holds(served, [str(java.path), "-cp", f"{path}:{tmp_path}", "Main"])


@generated
async def test_the_client_for_java_as_it_comes_compiles(served: Served, tmp_path: Path) -> None:
    """Without a choice of library: OkHttp and Gson, which refuse members that they don't know."""
    maven = program("mvn", package="maven")
    generate(served.document, tmp_path / "client", "-g", "java", *_JAVA)
    run([maven, "-B", "-q", "compile"], tmp_path / "client")


_JAVA = (
    "--invoker-package", "com.crossfade.client", "--api-package", "com.crossfade.client.api",
    "--model-package", "com.crossfade.client.model",
)  # fmt: skip
_CLASSPATH = ("dependency:build-classpath", "-Dmdep.outputFile=classpath")
