"""A real PostgreSQL on loopback, fsync on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import asyncpg

from compose.local.binaries import Binary, find_postgres
from compose.local.databases import create_database, drop_database
from compose.local.language import in_english
from compose.local.os_errors import explained_by
from compose.local.server import LocalServer, ServerError

__all__ = ["PostgresServer", "RunAs", "run_as"]

_USER = "crossfade"
_PATIENCE = 5.0  # seconds for a connection while starting
_STATUS_LINE = 7  # postmaster.pid, counted from 0; 'ready' once it takes connections
# C collation: the same order on every machine, and the wheel's build has no ICU.
_INITDB = ("--username", _USER, "--auth=trust", "--encoding=UTF8", "--locale=C")
_OPTIONS = (
    "listen_addresses=127.0.0.1",
    # No Unix socket: its path may be longer than the system allows, and nothing needs it.
    "unix_socket_directories=",
    "fsync=on",
    "synchronous_commit=on",
    "max_connections=200",
    # The first change of a page after a checkpoint writes the whole page to the WAL. Keys are
    # spread over the pages of a large index, so nearly every row causes it. So checkpoints are
    # rare, and these pages are compressed (see ``_compression``).
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "timezone=UTC",
    "log_timezone=UTC",
)


class RunAs(NamedTuple):
    """How to run PostgreSQL's programs: behind a command prefix, or as another user and group."""

    prefix: tuple[str, ...]
    identity: tuple[int, int] | None


@cache
def run_as() -> RunAs:
    """Decide how to run PostgreSQL, which refuses to run as uid 0.

    As root, run it in a user namespace that maps us to another uid: all files stay ours, so the
    data may lie below folders that only root can enter. If the kernel allows no namespace, run it
    as an unprivileged user, who must own the data and be able to reach it.

    Raises:
        ServerError: we are root, and this machine has no other user.
    """
    if os.geteuid() != 0:
        return RunAs((), None)
    users = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    user = users.get("postgres") or users.get("nobody") or next(iter(users.values()), None)
    if user is None:
        raise ServerError(
            "PostgreSQL refuses to run as root and this machine has no other user; create one, or "
            "run as another user"
        )
    if unshare := shutil.which("unshare"):
        # The number must have a name: initdb looks its user up.
        prefix = (unshare, "--user", f"--map-user={user.pw_uid}", "--")
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
            return RunAs(prefix, None)
    return RunAs((), (user.pw_uid, user.pw_gid))


class PostgresServer(LocalServer):
    """One PostgreSQL server on ``data_dir``, which ``initdb`` fills at the first start.

    Args:
        data_dir: The data.
        port: The port that the server must have.
        near: The preferred port; if it is taken, the server gets another.
        binary: By default one of the major version that made the data.
        config: Further settings of the server.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        near: int | None = None,
        binary: Binary | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            "postgres",
            data_dir,
            port=port,
            near=near,
            stop_signal=signal.SIGINT,  # "fast": ends the sessions, then writes a checkpoint
            identity=run_as().identity,
        )
        self.binary = binary or find_postgres(self._major())
        self._config = config or {}

    @property
    def url(self) -> str:
        """The address of the ``postgres`` database, as in ``DATABASE_URL``."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the address of a database of this server."""
        return f"postgresql://{_USER}@{self.host}:{self.port}/{database}"

    async def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database if it doesn't exist; return its URL.

        A ``template`` is a database to copy; it must have no sessions.
        """
        return await create_database(self.url, name, template=template)

    async def drop_database(self, name: str) -> None:
        """Drop a database and end its sessions."""
        await drop_database(self.url, name)

    async def cut_connections(self) -> None:
        """End every client's session, as a network or an administrator does."""
        connection = await asyncpg.connect(self.url, timeout=_PATIENCE)
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        finally:
            await connection.close()

    async def initialize(self) -> None:
        """Fill an empty data folder, as the first start does."""
        await asyncio.to_thread(self._initdb)

    def _prepare(self) -> None:
        self._initdb()
        self._check_version()
        self._forget_dead_postmaster()

    def _command(self) -> list[str]:
        own = [*_OPTIONS, f"wal_compression={_compression(self.binary)}", f"port={self.port}"]
        own += [f"{name}={value}" for name, value in self._config.items()]
        options = [part for option in own for part in ("-c", option)]
        return [*run_as().prefix, str(self.binary.path), "-D", str(self.data_dir), *options]

    def _initdb(self) -> None:
        if self._major() is not None:
            return
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        prefix, identity = run_as()
        # Fill another folder first, so that an interrupted initdb is never taken for complete.
        fresh = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if identity:
            os.chown(fresh, *identity)
        initdb = str(self.binary.path.with_name("initdb"))
        made = subprocess.run(
            [*prefix, initdb, "-D", str(fresh), *_INITDB],
            env=in_english(os.environ),
            capture_output=True,
            text=True,
            check=False,
            user=identity[0] if identity else None,
            group=identity[1] if identity else None,
            extra_groups=[] if identity else None,
        )
        if made.returncode != 0:
            if not identity and (cause := explained_by(made.stderr, fresh)):
                raise ServerError(f"initdb failed: {cause}")
            who = f" as uid {identity[0]}, since PostgreSQL refuses root" if identity else ""
            raise ServerError(
                f"initdb failed{who}; it needs to read {self.binary.path.parent} and to write "
                f"{fresh}:\n{made.stderr.strip()}"
            )
        fresh.rename(self.data_dir)

    def _major(self) -> int | None:
        """Return the major version that made the data; ``None`` if there is no data yet."""
        try:
            return int((self.data_dir / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def _check_version(self) -> None:
        made_by, major = self._major(), self.binary.version[0]
        if made_by != major:
            raise ServerError(
                f"the data in {self.data_dir} is PostgreSQL {made_by}'s and {self.binary.path} is "
                f"PostgreSQL {major}: put PostgreSQL {made_by} on the PATH, or move the folder "
                "away to start empty"
            )

    def _forget_dead_postmaster(self) -> None:
        """Remove the pid file of a server that died.

        PostgreSQL would refuse to start if another program has that process id by now. A server
        that we started, and all its backends, hold the lock of the data folder, so removing the
        file is safe: a start waits for the lock.

        Raises:
            ServerError: a PostgreSQL that we did not start runs on the data.
        """
        pid_file = self.data_dir / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if _works_in(pid, self.data_dir) and not self.held():
            raise ServerError(
                f"a PostgreSQL that we did not start (pid {pid}) runs on {self.data_dir}; stop it "
                f"with: kill -INT {pid}"
            )
        if not self.held():
            pid_file.unlink(missing_ok=True)

    async def _is_ready(self) -> bool:
        """Return whether our server takes connections, and clients reach it at the port.

        Its ``postmaster.pid`` says whether it takes connections; the server that answers at the
        port is asked for its data folder.
        """
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return (
            len(lines) > _STATUS_LINE
            and lines[0].strip() == str(self.pid)
            and lines[_STATUS_LINE].strip() == "ready"
            and await self._is_reached()
        )

    async def _is_reached(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=_PATIENCE)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        try:
            return bool(await connection.fetchval("SHOW data_directory") == str(self.data_dir))
        finally:
            await connection.close()


@cache
def _compression(binary: Binary) -> str:
    """Return the best WAL compression that ``binary`` was built with."""
    has_lz4 = b"LZ4_compress_default" in binary.path.read_bytes()
    return "lz4" if has_lz4 else "on"  # PostgreSQL's own method (pglz), which is slower


def _works_in(pid: int, folder: Path) -> bool:
    """Return whether a live process has ``folder`` as its working directory (a postmaster has)."""
    at = Path(f"/proc/{pid}/cwd")
    if Path("/proc/self").exists():
        with contextlib.suppress(OSError):
            return at.resolve(strict=True) == folder
        return False
    listed = subprocess.run(
        ["/bin/ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return str(folder) in listed.stdout
