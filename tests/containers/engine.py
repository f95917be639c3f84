"""A container engine: the one that answers, else one made here from the distribution's packages.

Where none answers, root on Debian can have one for as long as it is needed: ``dockerd`` in
namespaces of its own (network, mounts, processes). It changes no firewall rule of the machine and
makes no bridge on it, and nothing of it runs on when it is stopped or killed. What it keeps, images
and the folders of containers, is in one folder, so that the next start is a matter of seconds.

The network of that namespace leads nowhere. What has to be fetched is fetched before, by a first
``dockerd`` on the same folder that shares the machine's network (``OwnEngine.building``).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Engine", "EngineMissing", "OwnEngine", "given_engine"]

_STARTS_WITHIN = 60.0  # seconds
_STOPS_WITHIN = 60.0
_PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "iptables": "iptables",
}


class EngineMissing(Exception):  # noqa: N818 - the word is the finding
    """There is no engine, and none can be made. The text says why and what to do."""


@dataclass(frozen=True)
class Engine:
    """An engine that runs.

    ``environment`` leads the ``docker`` command to it; ``inside`` goes before a command that is to
    reach the ports that its containers publish.
    """

    environment: Mapping[str, str]
    inside: tuple[str, ...] = ()

    def docker(
        self,
        *arguments: str,
        timeout: float = 900,
        env: Mapping[str, str] | None = None,
        stdin: IO[bytes] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker`` with ``arguments``; return what it said and its exit status.

        ``env`` goes before the variables of this process, and the engine's own before both.
        """
        return subprocess.run(
            ["docker", *arguments],
            env={**os.environ, **(env or {}), **self.environment},
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )


def given_engine() -> Engine:
    """Return the engine that ``docker`` leads to by itself.

    Raises:
        EngineMissing: it does not answer, or there is no Compose.
    """
    engine = Engine({})
    if shutil.which("docker") is None:
        raise EngineMissing("there is no 'docker' on the PATH")
    if engine.docker("version", timeout=20).returncode != 0:
        raise EngineMissing("no engine answers 'docker version'")
    if engine.docker("compose", "version", timeout=20).returncode != 0:
        raise EngineMissing("'docker compose' is missing: install Docker's Compose plug-in")
    return engine


class OwnEngine:
    """``dockerd`` on ``folder``: first for building, then for running."""

    def __init__(self, folder: Path) -> None:
        missing = {package for name, package in _PROGRAMS.items() if _found(name) is None}
        if os.geteuid() != 0:
            raise EngineMissing("an engine of the tests' own needs root")
        if missing:
            names = " ".join(sorted(missing))
            raise EngineMissing(f"an engine of the tests' own needs: apt-get install {names}")
        self.folder = folder
        self.config = folder / "config"
        self.config.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def building(self) -> Iterator[Engine]:
        """Run it on the machine's network. Containers have none but that (``--network=host``)."""
        alone = ("--bridge=none", "--iptables=false", "--ip-masq=false")
        with self._dockerd((), alone) as (socket, _):
            yield Engine(self._environment(socket))

    @contextmanager
    def running(self) -> Iterator[Engine]:
        """Run it on a network of its own."""
        with self._dockerd(("--net",), ()) as (socket, pid):
            inside = ("nsenter", "--target", str(pid), "--net")
            yield Engine(self._environment(socket), inside)

    def _environment(self, socket: Path) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(self.config)}

    @contextmanager
    def _dockerd(
        self, namespaces: tuple[str, ...], options: tuple[str, ...]
    ) -> Iterator[tuple[Path, int]]:
        """Yield its socket and its process id. The path of a socket has to be short."""
        with tempfile.TemporaryDirectory(prefix="engine-") as short:
            socket = Path(short) / "docker.sock"
            command = [
                "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                *namespaces, "sh", "-c", 'ip link set lo up; exec "$@"', "dockerd",
                str(_found("dockerd")), "--data-root", str(self.folder / "data"),
                "--exec-root", f"{short}/run", "--pidfile", f"{short}/pid",
                "--host", f"unix://{socket}", *options,
            ]  # fmt: skip
            log_path = self.folder / "dockerd.log"
            with log_path.open("w") as log:
                box = subprocess.Popen(command, stdout=log, stderr=log, env=_with_sbin())
            try:
                self._wait(Engine(self._environment(socket)), box, log_path)
                pid = _child_of(box)
                yield socket, pid
                os.kill(pid, signal.SIGTERM)  # its containers are stopped in order
                box.wait(_STOPS_WITHIN)
            finally:
                box.kill()  # and with it, whatever is left in its namespaces
                box.wait()

    def _wait(self, engine: Engine, box: subprocess.Popen[bytes], log_path: Path) -> None:
        deadline = time.monotonic() + _STARTS_WITHIN
        while engine.docker("version").returncode != 0:
            if box.poll() is not None or time.monotonic() > deadline:
                said = "\n".join(log_path.read_text().splitlines()[-8:])
                raise EngineMissing(f"dockerd did not start:\n{said}")
            time.sleep(0.2)


def _child_of(process: subprocess.Popen[bytes]) -> int:
    """Return the one child of ``process``: the first process of its namespace."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])


def _found(program: str) -> str | None:
    return shutil.which(program, path=_with_sbin()["PATH"])


def _with_sbin() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
