"""The guard: runs one server, and stops it when the process that owns it ends, even by SIGKILL.

``compose.local.server`` starts it as a program of its own, which uses only the standard library:

    python guard.py SIGNAL GRACE LOCK_FD UID:GID -- command argument ...

Standard input is a pipe to which nothing is written; it ends when the owner closes it or dies. The
guard then sends ``SIGNAL`` to the server, waits ``GRACE`` seconds, and kills the processes that are
left. The guard runs in a session of its own: Ctrl-C in the terminal reaches only the owner, which
stops its servers in order. The first line on standard output is the server's process id. Guard and
server both hold ``LOCK_FD``, a locked file: while either lives, no other process can start a server
on the same data.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

__all__ = ["family", "signal_all", "stand_still"]

_PR_SET_PDEATHSIG = 1
_STILL = "TtZX"  # the states of /proc/PID/stat: stopped, traced, a zombie, dead
_STAT_PARENT = 1  # fields of /proc/PID/stat after the command's closing parenthesis: state, ppid


def _parents() -> dict[int, int]:
    """Return the parent of every process, by process id: from /proc, or from ``ps`` without it."""
    parents: dict[int, int] = {}
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended while we looked
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    parents[int(entry.name)] = int(fields[_STAT_PARENT])
        return parents
    table = subprocess.run(
        ["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    for line in table.stdout.splitlines():
        pid, parent = line.split()
        parents[int(pid)] = int(parent)
    return parents


def family(pid: int) -> list[int]:
    """Return ``pid`` and all its descendants, parents first.

    A process group would not do: each backend of PostgreSQL has a session of its own.
    """
    parents = _parents()
    found = [pid]
    for member in found:
        found.extend(child for child, parent in parents.items() if parent == member)
    return found


def signal_all(pid: int, number: signal.Signals) -> None:
    """Send a signal to ``pid`` and all its descendants; skip processes that have ended."""
    for member in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, number)


def stand_still(pid: int) -> bool:
    """Return whether every thread of ``pid`` and its descendants is stopped, or has ended.

    SIGSTOP stops a process once one of its threads gets the processor; until then the others run.
    Where there is no /proc this is not known, and taken for granted.
    """
    for member in family(pid):
        # The folder is empty where there is no /proc, and gone once the process has ended.
        for thread in Path(f"/proc/{member}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # it ended while we looked
                state = thread.read_text().rpartition(")")[2].split()[0]
                if state not in _STILL:
                    return False
    return True


def _dies_with_guard() -> Callable[[], None] | None:
    """Return the server's pre-exec hook, which also ends the server if the guard is killed.

    This works on Linux only, and not for a server that changes its user (the kernel clears the
    setting), so it is a second line of defence. The C library is loaded here because loading it
    after the fork isn't safe.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _stop(server: subprocess.Popen[bytes], number: signal.Signals, grace: float) -> None:
    signal_all(server.pid, signal.SIGCONT)  # a suspended server can't obey
    server.send_signal(number)
    try:
        server.wait(grace)
    except subprocess.TimeoutExpired:
        signal_all(server.pid, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run the guard; return the server's exit status."""
    number, grace, lock_fd, identity = arguments[:4]
    command = arguments[5:]
    user, group = (int(part) for part in identity.split(":")) if identity != "-" else (None, None)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=[int(lock_fd)],
        user=user,
        group=group,
        extra_groups=[] if user is not None else None,
        preexec_fn=_dies_with_guard(),  # noqa: PLW1509 - no thread is running yet
    )
    os.write(1, f"{server.pid}\n".encode())
    os.close(1)
    leaving = threading.Event()

    def until_owner_is_gone() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        leaving.set()

    def leave(_number: int, _frame: FrameType | None) -> None:
        leaving.set()

    # Handlers and not SIG_IGN, which a server started later would inherit.
    signal.signal(signal.SIGTERM, leave)
    for harmless in (signal.SIGINT, signal.SIGHUP):
        signal.signal(harmless, lambda _number, _frame: None)
    threading.Thread(target=until_owner_is_gone, daemon=True).start()

    def stop_when_leaving() -> None:
        leaving.wait()
        _stop(server, signal.Signals[number], float(grace))

    threading.Thread(target=stop_when_leaving, daemon=True).start()
    status = server.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
