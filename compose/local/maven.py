"""Jars from Maven, fetched once.

Only ``mvn`` and a JDK are needed. Maven takes its repositories and proxies from the user's own
settings; nothing here names a host.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compose.local.server import ServerError

__all__ = ["Coordinates", "fetched_jars"]

Coordinates = tuple[str, str, str]
"""Group, artifact, version."""

_POM = """\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>crossfade.local</groupId>
  <artifactId>jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""
_DEPENDENCY = """\
    <dependency>
      <groupId>{0}</groupId>
      <artifactId>{1}</artifactId>
      <version>{2}</version>
    </dependency>"""
_TIMEOUT = 600.0  # seconds


def fetched_jars(folder: Path, name: str, wanted: Sequence[Coordinates]) -> Path:
    """Return ``folder/jars`` with the jars of ``wanted`` and their runtime dependencies.

    The jars are fetched if the folder is missing.

    Args:
        folder: Where the jars are kept.
        name: The name of the jars in errors.
        wanted: The artifacts.

    Raises:
        ServerError: the jars are not in the folder, and Maven is missing or fails.
    """
    jars = folder / "jars"
    if jars.is_dir():
        return jars
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may start at once
        if not jars.is_dir():
            _fetch(folder, name, wanted, jars)
    return jars


def _fetch(folder: Path, name: str, wanted: Sequence[Coordinates], jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerError(
            f"{name} is not in {folder}, and 'mvn' is not on the PATH to fetch it: "
            "install Maven, or copy a filled cache folder from another machine"
        )
    pom = "\n".join(_DEPENDENCY.format(*coordinates) for coordinates in wanted)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        (Path(scratch) / "pom.xml").write_text(_POM.format(dependencies=pom))
        fetched = Path(scratch) / "jars"
        command = [
            maven, "--batch-mode", "--quiet", "dependency:copy-dependencies",
            "-DincludeScope=runtime", f"-DoutputDirectory={fetched}",
        ]  # fmt: skip
        try:
            result = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise ServerError(
                f"Maven had not fetched {name} after {_TIMEOUT:.0f} s; "
                "see whether it reaches its repository"
            ) from None
        if result.returncode != 0:
            said = "\n".join((result.stdout + result.stderr).splitlines()[-8:])
            raise ServerError(f"Maven could not fetch {name}:\n{said}")
        fetched.rename(jars)  # atomic: the folder never has a part of the jars
