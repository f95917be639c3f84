"""The packages that are made of the checkout, and the service in an empty environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.compose.test_guide_steps import BODY, JSON
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.pythons import others

ROOT = Path(__file__).parents[2]
LAB = ROOT / "lab"
PACKAGES = sorted(path.parent for path in ROOT.glob("*/py.typed") if path.parent != LAB)
OF_A_PROJECT = {"README.md", "pyproject.toml"}


def _run(*command: str | Path, cwd: Path) -> str:
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def _files(*folders: str | Path) -> set[str]:
    """Return the files of the checkout below ``folders`` that git has, or would add."""
    listed = _run("git", "ls-files", "-z", "-co", "--exclude-standard", *folders, cwd=ROOT)
    return {name for name in listed.split("\0") if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist and the wheel, as ``python -m build`` makes them: the second from the first."""
    folder = tmp_path_factory.mktemp("dist")
    checkout = tmp_path_factory.mktemp("checkout")
    for name in _files("."):  # a build writes beside the sources
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    for project in (checkout, checkout / "lab", checkout / "clients" / "python"):
        _run(sys.executable, "-m", "build", "--outdir", folder, project, cwd=folder)
    return folder


def _wheel(dist: Path, package: str) -> Path:
    (wheel,) = dist.glob(f"{package}-*.whl")
    return wheel


def _contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_has_every_file_of_the_service_and_nothing_else(dist: Path) -> None:
    assert _contents(_wheel(dist, "crossfade")) == _files(*PACKAGES)


def test_the_lab_is_in_a_wheel_of_its_own(dist: Path) -> None:
    own = {f"lab/{name}" for name in OF_A_PROJECT}
    assert _contents(_wheel(dist, "crossfade_lab")) == _files(LAB) - own


def test_the_client_is_in_a_wheel_of_its_own(dist: Path) -> None:
    assert {f"clients/python/{name}" for name in _contents(_wheel(dist, "crossfade_client"))} == (
        _files(ROOT / "clients/python/crossfade_client")
    )


def test_the_sdist_has_the_service_and_its_documentation(dist: Path) -> None:
    (sdist,) = dist.glob("crossfade-*.tar.gz")
    with tarfile.open(sdist) as archive:
        files = (it.name.partition("/")[2] for it in archive.getmembers() if it.isfile())
        names = {name for name in files if ".egg-info/" not in name}
    assert _files(*PACKAGES, "docs") <= names
    assert {name.partition("/")[0] for name in names if "/" in name} == {
        *(package.name for package in PACKAGES), "docs",
    }  # fmt: skip


@pytest.fixture
def python() -> Path:
    """The newest interpreter that the project takes: tests run on another one, if there are two."""
    return [Path(sys.executable), *others().values()][-1]


def _installed(dist: Path, folder: Path, python: Path) -> Path:
    """Install the wheel in an environment of its own; return the folder of its commands."""
    _run(python, "-m", "venv", folder / "venv", cwd=folder)
    wheel = _wheel(dist, "crossfade")
    pip = (folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet")
    # What is imported is compiled then, in less time than all of it here.
    _run(*pip, "--no-compile", "-c", ROOT / "constraints.txt", f"{wheel}[local]", cwd=folder)
    return folder / "venv" / "bin"


def _says_what_else_there_is(commands: Path, folder: Path) -> None:
    listed = _run(commands / "crossfade", "--help", cwd=folder)
    assert "serve" in listed
    for named, package in (("soak", "lab"), ("migrate rehearse", "lab"), ("produce", "client")):
        assert f"  {named} " not in listed
        command = [commands / "crossfade", *named.split(), "--anything"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert f"'crossfade {named}' needs the package crossfade-{package}: pip " in ran.stderr
    program = [commands / "python", "-c", "from crossfade import Client"]
    ran = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.stderr.endswith("is a package of its own: pip install crossfade-client\n")


async def test_up_runs_from_an_empty_environment_outside_the_checkout(
    dist: Path, tmp_path: Path, python: Path
) -> None:
    commands = _installed(dist, tmp_path, python)
    _run(commands / "python", "-c", "import crossfade.transport, crossfade.settings", cwd=tmp_path)
    _says_what_else_there_is(commands, tmp_path)

    up = await Crossfade.start("up", cwd=tmp_path, command=commands / "crossfade")
    try:
        api = (await up.says(r"API +(http://\S+)"))[1]
        async with httpx.AsyncClient() as client:
            first = await client.post(f"{api}/api/messages", content=BODY, headers=JSON)
            assert first.status_code == 202

            async def persisted() -> bool:
                answer = await client.get(f"{api}/api/messages/{first.json()['messageId']}")
                return bool(answer.json()["state"] == "persisted")

            await eventually(persisted)
            again = await client.post(f"{api}/api/messages", content=BODY, headers=JSON)
            assert (again.status_code, again.json()["idempotentHit"]) == (200, True)
            assert (await client.get(f"{api}/console")).status_code == 200
        assert await up.interrupt() == 0
    finally:
        await up.kill()
