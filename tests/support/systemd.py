"""A systemd of the test's own: its user manager, with a ``/run`` and process ids of its own.

It sees units of one folder only, and starts none by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.requirements import absent

__all__ = ["Systemd", "run_systemd"]

_PROGRAM = "/lib/systemd/systemd"
_RUNTIME = "/run/user/0"
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
_OWN_RUN = "mount -t tmpfs none /run"
# The shell is the first process of its namespace: when it is killed, all others are too.
_START = f"""
{_OWN_RUN} && mkdir -p /run/systemd/system {_RUNTIME} || exit 1
for group; do echo 0 > "$group/cgroup.procs"; done
{_PROGRAM} --user --unit=nothing.target --log-target=console &
wait
"""


class Systemd:
    """A running manager; ``folder`` is for its units."""

    def __init__(self, init: int, environment: dict[str, str], folder: Path) -> None:
        self._init = str(init)
        self._environment = environment
        self.folder = folder

    async def systemctl(self, *arguments: str) -> tuple[int, str]:
        """Run ``systemctl --user``; return its exit status and what it said."""
        process = await asyncio.create_subprocess_exec(
            "nsenter", "--target", self._init, "--mount", "--pid",
            "systemctl", "--user", "--no-pager", *arguments,
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode().strip()

    async def done(self, *arguments: str) -> str:
        """Run ``systemctl --user``, which must succeed; return what it said."""
        status, said = await self.systemctl(*arguments)
        assert status == 0, said
        return said

    async def property(self, unit: str, name: str) -> str:
        """Return a property of a unit, such as ``ActiveState``."""
        return await self.done("show", unit, "--value", "--property", name)


@asynccontextmanager
async def run_systemd(folder: Path) -> AsyncIterator[Systemd]:
    """Start a manager that ends with the block, and all that it started with it."""
    _skip_where_there_is_none()
    units = folder / "config" / "systemd" / "user"
    units.mkdir(parents=True)
    (units / "nothing.target").write_text("[Unit]\nDefaultDependencies=no\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_RUNTIME_DIR": _RUNTIME,
    }
    with _control_groups(folder.name) as groups, (folder / "systemd.log").open("wb") as log:
        outer = await asyncio.create_subprocess_exec(
            *_NAMESPACES, "sh", "-c", _START, "sh", *map(str, groups),
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        init = 0
        try:
            init = await _first_child(outer.pid)
            manager = Systemd(init, environment, units)

            async def answers() -> bool:
                return (await manager.systemctl("show", "--property", "Version"))[0] == 0

            await eventually(answers)
            yield manager
        finally:
            outer.kill()  # and with it the first process of the namespace, which ends the others
            await outer.wait()
            await eventually(lambda: not Path(f"/proc/{init}").exists())


def _skip_where_there_is_none() -> None:
    if not Path(_PROGRAM).exists() or shutil.which("systemctl") is None:
        absent("no systemd here: `apt-get install systemd`")
    tried = subprocess.run([*_NAMESPACES, "sh", "-c", _OWN_RUN], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("NOT TESTED: systemd needs namespaces of its own, which only root can make")


async def _first_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = await eventually(lambda: children.read_text().split())
    return int(found[0])


@contextmanager
def _control_groups(name: str) -> Iterator[Sequence[Path]]:
    """Make a control group for the manager, in each hierarchy that it may keep its units in."""
    made = []
    for hierarchy in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"):
        if (root := Path(hierarchy)).joinpath("cgroup.procs").exists():
            group = root / f"crossfade-{os.getpid()}-{name}"
            group.mkdir()
            made.append(group)
    try:
        yield made
    finally:
        for group in made:
            below = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
            for folder in [*below, group]:
                with suppress(OSError):
                    folder.rmdir()
