"""What ``--dist loadfile`` gives to one process: a file, or a folder that shares its servers."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

__all__ = ["SharedServers"]

_FOLDERS = ("tests/clients/", "tests/console/", "tests/hostile/kafka_records/")
"""Their files share servers or a browser, which take longer to start than the tests take."""


class SharedServers(LoadFileScheduling):
    """Files of one of those folders stay together."""

    def _split_scope(self, nodeid: str) -> str:
        folder = next((one for one in _FOLDERS if nodeid.startswith(one)), None)
        return folder or super()._split_scope(nodeid)
