"""The scheduling of ``--dist loadfile``: by file, or by folder if its files share servers."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

__all__ = ["SharedServers", "mixed", "rotated"]

_FOLDERS = (
    "tests/clients/", "tests/console/", "tests/hostile/kafka_records/", "tests/payloads/",
    "tests/shadow/",
)  # fmt: skip
"""Folders whose files share servers or a browser, which take longer to start than the tests."""

_LONGEST = (
    "tests/clients/", "tests/compose/test_migrate_run.py", "tests/console/",
    "tests/faults/test_crossfade.py", "tests/faults/test_pooler.py",
    "tests/hostile/kafka_records/", "tests/kafka/test_kafka_altered.py",
    "tests/kafka/test_kafka_lost_tail.py", "tests/kafka/test_kafka_rights.py",
    "tests/package/test_wheel.py", "tests/rehearsal/test_rehearsal.py", "tests/shadow/",
)  # fmt: skip
"""The longest files, which start first: started last, one would run alone at the end."""


class SharedServers(LoadFileScheduling):
    """Schedules all files of such a folder to one process."""

    def _split_scope(self, nodeid: str) -> str:
        folder = next((path for path in _FOLDERS if nodeid.startswith(path)), None)
        return folder or super()._split_scope(nodeid)


def mixed(nodeid: str) -> tuple[bool, bytes]:
    """Return the sort key of a test's file: the longest first, the others by a digest.

    By name, the folders with the heaviest tests would run in all processes at once, and by number
    of tests (pytest-xdist's own order) the longest files would come last.
    """
    file = nodeid.partition("::")[0]
    return not file.startswith(_LONGEST), sha256(file.encode()).digest()


def rotated(tests: Path, number: int, processes: int) -> list[str]:
    """Return the folders in ``tests``; each process begins at another one."""
    files = {str(path): len([*path.rglob("test_*.py")]) for path in sorted(tests.iterdir())}
    folders = [path for path, count in files.items() if count]
    before = sum(files.values()) * number // processes
    first = next(n for n in range(len(folders)) if sum(files[f] for f in folders[:n]) >= before)
    return folders[first:] + folders[:first]
