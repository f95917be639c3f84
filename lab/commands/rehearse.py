"""``crossfade migrate rehearse``: the whole migration on this machine, under load, checked."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from typing import Annotated

import typer

from compose.commands.options.common import Json, LargeShare
from compose.output import run
from compose.settings import known
from lab.harness.proxy import ProxyKind
from lab.rehearsal.options import Options
from persistence.fleet.log_choice import FIRST_PAIR, LogPair
from transport.errors import ConfigurationError
from transport.log_name import LogName

__all__ = ["rehearse"]

_STARTED = ("redis", "kafka")


def rehearse(
    *,
    minutes: Annotated[
        float | None, typer.Option(min=0.5, help="How long the whole walk takes, about.")
    ] = None,
    seconds_per_phase: Annotated[
        float, typer.Option(min=0, help="Or how long to stay in each phase.")
    ] = 12.0,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="New messages a second; half of what this machine sustains where not given.",
        ),
    ] = None,
    conversations: Annotated[
        int | None,
        typer.Option(
            min=1, help="Conversations with one writer each; enough for the rate where not given."
        ),
    ] = None,
    ingresses: Annotated[int, typer.Option(min=1, help="Ingress processes.")] = 2,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Worker processes; with 0, those that accept persist as well."),
    ] = 2,
    faults: Annotated[
        bool, typer.Option("--faults", help="Kill, suspend and restart everything, in every phase.")
    ] = False,
    large: LargeShare = 0.0,
    s3: Annotated[
        bool, typer.Option("--s3", help="Keep large content in a real S3 server, not in a folder.")
    ] = False,
    proxy: Annotated[
        ProxyKind | None,
        typer.Option(help="Put this proxy in front; clients send to the proxy only."),
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
    replay: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long TLC may replay conversations; the report is written before.",
        ),
    ] = 900.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the random numbers; by default a new one each time."),
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

    It starts the servers and processes that it needs, and uses no others. Exit status 1 if anything
    was lost, doubled, reordered or made up, or if a gate stayed red. Ctrl-C ends the walk early,
    and the messages so far are checked; a second Ctrl-C ends everything at once.
    """
    if s3 and not large:
        raise typer.BadParameter(
            "nothing would be kept there: give --large too.", param_hint="--s3"
        )
    # The environment's settings must not affect the rehearsal's processes.
    for name in known():
        os.environ.pop(name, None)
    # Drop this process's log lines: its clients would report the injected faults.
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
        replay_seconds=replay,
        pair=_pair(old, new),
        seed=random.SystemRandom().randrange(1, 1 << 31) if seed is None else seed,
    )
    # FastAPI and Alembic take most of a second to import.
    from lab.rehearsal import session  # noqa: PLC0415

    raise typer.Exit(run(lambda: session.rehearse(options, report, keep=keep, as_json=as_json)))


def _pair(old: str, new: str) -> LogPair:
    """Return the two logs; end the command if the rehearsal can't start a server for one."""
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
