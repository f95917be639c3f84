"""``crossfade migrate rehearse``: the whole migration on this machine, under load, with proof."""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from compose.commands.options import Json
from compose.local.proxy import ProxyKind
from compose.output import err, out, run
from compose.process.signals import Interrupted, Signals
from compose.rehearsal.options import Options
from compose.settings import known
from persistence.fleet.log_choice import FIRST_PAIR, LogPair
from transport.errors import ConfigurationError
from transport.log_name import LogName

__all__ = ["rehearse"]

_VIOLATED = 1
_INTERRUPTED = 130
_STARTED = ("redis", "kafka")


def rehearse(
    *,
    minutes: Annotated[
        float | None, typer.Option(min=0.5, help="How long the whole walk takes, about.")
    ] = None,
    seconds_per_phase: Annotated[
        float, typer.Option(min=0, help="Or how long to stay in each phase.")
    ] = 12.0,
    rate: Annotated[float, typer.Option(min=1, help="New messages a second.")] = 120.0,
    conversations: Annotated[
        int, typer.Option(min=1, help="Conversations with one writer each.")
    ] = 60,
    ingresses: Annotated[int, typer.Option(min=1, help="Ingress processes.")] = 2,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Worker processes; with 0, those that accept persist as well."),
    ] = 2,
    faults: Annotated[
        bool, typer.Option("--faults", help="Kill, suspend and restart everything, in every phase.")
    ] = False,
    large: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of messages whose content is large, in a payload store."
        ),
    ] = 0.0,
    s3: Annotated[
        bool, typer.Option("--s3", help="Keep large content in a real S3 server, not in a folder.")
    ] = False,
    proxy: Annotated[
        ProxyKind | None,
        typer.Option(help="Put this proxy in front; its clients know no process by itself."),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds that a gate may stay red; a backfill counts.")
    ] = 300.0,
    old: Annotated[
        str, typer.Option("--from", metavar="LOG", help="The log to walk from.")
    ] = FIRST_PAIR.old,
    new: Annotated[
        str, typer.Option("--to", metavar="LOG", help="The log to walk to: redis@32, kafka.b.")
    ] = FIRST_PAIR.new or "",
    seed: Annotated[
        int | None, typer.Option(help="Of all dice; another one each time where not given.")
    ] = None,
    report: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where the report and the history go."),
    ] = Path(".crossfade/rehearsal"),
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the servers' data and every process's log.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Walk every phase and back here, under load, with proof.

    Starts the servers and processes that it needs, and touches no others. Exit
    status 1 if anything was lost, doubled, reordered or made up, or if a gate stayed red.
    """
    if s3 and not large:
        raise typer.BadParameter(
            "nothing would be kept there: give --large too.", param_hint="--s3"
        )
    # The processes' settings are the rehearsal's alone, whatever this shell has.
    for name in known():
        os.environ.pop(name, None)
    # Clients in this process complain of the faults that were asked for.
    logging.getLogger().addHandler(logging.NullHandler())
    options = Options(
        minutes=minutes,
        seconds_per_phase=seconds_per_phase,
        rate=rate,
        conversations=conversations,
        ingresses=ingresses,
        workers=workers,
        faults=faults,
        proxy=proxy,
        large=large,
        s3=s3,
        gate_seconds=patience,
        pair=_pair(old, new),
        seed=random.SystemRandom().randrange(1, 1 << 31) if seed is None else seed,
    )
    raise typer.Exit(run(lambda: _rehearse(options, report, keep=keep, as_json=as_json)))


def _pair(old: str, new: str) -> LogPair:
    """Return the two logs, if the rehearsal can start servers for both."""
    for option, log in (("--from", old), ("--to", new)):
        try:
            kind = LogName.parse(log, variable=option).kind
        except ConfigurationError as error:
            raise typer.BadParameter(str(error)) from error
        if kind not in _STARTED:
            raise typer.BadParameter(f"{option}={log!r}: it starts {' and '.join(_STARTED)} only")
    if old == new:
        raise typer.BadParameter(f"{old} is both: name another log.", param_hint="--to")
    return LogPair(old, new)


async def _rehearse(options: Options, report: Path, *, keep: bool, as_json: bool) -> int:
    # FastAPI and Alembic take most of a second to import.
    from compose.rehearsal.files import save  # noqa: PLC0415
    from compose.rehearsal.live import Live  # noqa: PLC0415
    from compose.rehearsal.rehearse import Rehearsal  # noqa: PLC0415
    from compose.rehearsal.summary import show  # noqa: PLC0415

    signals = Signals()
    signals.install()
    folder = Path(tempfile.mkdtemp(prefix="crossfade-rehearsal-"))
    live = Live(err)
    rehearsal = Rehearsal(folder, options, live.say)
    passed = False
    try:
        with live.following(rehearsal):
            made = await signals.unless_stopped(rehearsal.run())
        saved = save(report, made, rehearsal, folder)
        if as_json:
            out.json(msgspec.to_builtins(made))
        else:
            show(out, made, saved)
        # Nothing may go unjudged in CI because a program was not installed.
        judged = made.second.missing is None or os.environ.get("CI", "").lower() != "true"
        passed = made.passed and judged
    except Interrupted:
        err.print("Interrupted; everything it started has been stopped.")
        return _INTERRUPTED
    finally:
        if keep:
            err.print(f"Data and logs are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if passed else _VIOLATED
