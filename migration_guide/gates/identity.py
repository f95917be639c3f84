"""Gate ``identity``: a name means one log to every process, the log first recorded under it.

Two processes with the same ``TRANSPORT`` and different ``REDIS_HOST`` write two logs under one
name, so no order holds. One log under two names is copied to itself. Each log has an identity that
no other log has (``Transport.identity``); heartbeats report it, and the first one is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from migration_guide.gates.processes import named
from migration_guide.gates.result import GateResult, Scene, green, red, unknown
from persistence.fleet.log_identities import known_identities
from persistence.fleet.processes import Process

__all__ = ["NAME", "gate", "judge"]

NAME = "identity"


async def gate(scene: Scene) -> GateResult:
    """Compare the logs that the processes met with each other, and with the recorded ones."""
    return judge(scene.processes, await known_identities(scene.pool))


def judge(processes: Collection[Process], known: Mapping[str, str]) -> GateResult:
    """Return red for a name of two logs or a log of two names, unknown if a process is silent."""
    live = [process for process in processes if process.live]
    evidence = {
        "processes": {process.member: process.logs for process in live},
        "known": dict(known),
    }
    if found := next(_disagreements(_met(live), known), None):
        reason, remedy = found
        return red(NAME, reason, evidence, remedy=remedy)
    if unsaid := [process for process in live if not _says(process)]:
        return unknown(
            NAME,
            f"these processes have not reported which logs they use: {named(unsaid)}",
            evidence,
        )
    if not live:
        return unknown(NAME, "no process says that it runs", evidence)
    return green(NAME, "each name means one log, the same to every process", evidence)


def _disagreements(
    met: Mapping[str, Mapping[str, list[str]]], known: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the disagreements, each with its remedy."""
    names: dict[str, set[str]] = defaultdict(set)
    for name, identity in known.items():
        names[identity].add(name)
    for name, members in met.items():
        for identity in members:
            names[identity].add(name)
        if len(members) > 1:
            who = "; ".join(f"one of {', '.join(found)}" for found in members.values())
            yield (
                f"{name} is {len(members)} logs: {who}",
                "compare their addresses of it; another server needs a name of its own (a label)",
            )
        elif known.get(name) not in {None, *members}:
            yield (
                f"{name} is another log than it was",
                (
                    "give the new server a name of its own (a label), or, if the log was emptied "
                    f"or made anew, say so with 'crossfade migrate forget-log {name} --why ...'"
                ),
            )
    for several in names.values():
        if len(several) > 1:
            yield (
                f"{' and '.join(sorted(several))} are one log",
                (
                    "compare their addresses. A name that is no longer used is removed with "
                    "'crossfade migrate forget-log NAME --why ...'"
                ),
            )


def _met(processes: Collection[Process]) -> dict[str, dict[str, list[str]]]:
    """Return which processes met which log, by name and identity."""
    met: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for process in processes:
        for name, identity in (process.logs or {}).items():
            if identity is not None:
                met[name][identity].append(process.member)
    return met


def _says(process: Process) -> bool:
    """Return whether the process reported the identity of each log in its settings."""
    used = {process.transport, process.transport_shadow, process.consume_from} - {None}
    return all((process.logs or {}).get(name or "") for name in used)
