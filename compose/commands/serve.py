"""``crossfade serve`` and ``crossfade worker``: one process of the service."""

from __future__ import annotations

from compose.console import client_settings, run, settings_or_exit
from compose.role import Role
from compose.settings import Settings
from compose.signals import Signals

__all__ = ["serve", "worker"]


def serve() -> None:
    """Run the API, and workers unless ENABLE_STREAM_CONSUMERS=false, until SIGTERM or Ctrl-C."""
    settings = settings_or_exit()
    run(lambda: _run(settings, Role.SERVE))


def worker() -> None:
    """Run workers without an API. Any number of processes share the partitions."""
    settings = client_settings()
    run(lambda: _run(settings, Role.WORKER))


async def _run(settings: Settings, role: Role) -> None:
    # FastAPI takes half a second to import: other commands do without.
    from compose.serve import run as run_process  # noqa: PLC0415

    signals = Signals()
    signals.install()
    await run_process(settings, role, signals.stop)
