"""Runs commands as another user, who owns no file here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.requirements import absent

__all__ = ["OTHER", "folder_for_both", "run_as_other_user"]

OTHER = 65534
"""The uid of that user; ``nobody`` on most systems."""
# That user may not be able to read the interpreter's files, so import everything before.
_BECOME = """
import os, sys
{first}
os.setgroups([])
os.setgid({other})
os.setuid({other})
os.chdir({cwd!r})
sys.argv = {arguments!r}
{then}
"""


def run_as_other_user(
    first: str, then: str, *arguments: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run the statement ``first`` as ourselves and ``then`` as the other user, in ``cwd``."""
    if os.geteuid() != 0:
        absent("what another user may not do: only root can become one")
    code = _BECOME.format(
        first=first, then=then, other=OTHER, cwd=str(cwd), arguments=list(arguments)
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "HOME": str(cwd)},
    )  # fmt: skip


@contextmanager
def folder_for_both() -> Iterator[Path]:
    """Make a folder that the other user can look into; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="crossfade-test-")).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
