"""Examines one log: connection, server, identity, durability, rights and records."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from compose.doctor.certificates import examine_certificates
from compose.doctor.clock import clock
from compose.doctor.observation import Observation, bad, failed, fine, unknown, warning
from ingress.console.health.losses import loss_sentence
from otel.losses import Loss, loss_of
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.deadline import answer
from transport.durability import Durability
from transport.errors import ConfigurationError, TransportError, one_line
from transport.existing import Existing
from transport.first_start import ForeseesFirstStart
from transport.rights import LackingRights, TellsRights
from transport.server_facts import ServerFacts, TellsServerFacts

__all__ = ["examine_durability", "examine_log"]

_WITHIN = 10.0


async def examine_log(
    log: Transport, *, known: Mapping[str, str], retired: Mapping[str, str]
) -> AsyncIterator[Observation]:
    """Yield the observations of a log.

    Args:
        log: The log, not connected yet.
        known: The identity of each log by name, from PostgreSQL.
        retired: By name of a retired log, who retired it and why.
    """
    try:
        if isinstance(log, TellsServerFacts):
            asked = time.time()
            facts = await answer(log.server_facts(), within=_WITHIN)
            for observation in _of_server(facts, asked, time.time()):
                yield observation
        if log.name in retired:
            yield bad("name", f"retired {retired[log.name]}", "give the settings another log")
            return
        if isinstance(log, Existing) and not await answer(log.exists(), within=_WITHIN):
            for observation in await _of_no_log(log, log.where, known):
                yield observation
            return
        async with log:
            async for observation in _of_log(log, known):
                yield observation
    except ConfigurationError as error:
        found = one_line(error)
        yield bad("connection", found, "correct what the text names: no process starts before")
    except (TransportError, TimeoutError) as error:
        yield failed(
            "connection",
            error,
            one_line(error, empty=f"no answer within {_WITHIN:g} s"),
            "do what the text names; else see that the server runs, and that this log's settings "
            "lead to it",
        )
        for observation in await _lacking(log):
            yield observation


async def _lacking(log: Transport) -> list[Observation]:
    """Return the rights that the user lacks in a log that can't be opened, if there are any."""
    if not isinstance(log, ForeseesFirstStart):
        return []
    try:
        rights = (await answer(log.first_start(), within=_WITHIN)).rights
    except (ConfigurationError, TransportError, TimeoutError):
        return []
    return [_rights(rights)] if rights is not None and rights.needed else []


async def _of_no_log(log: Transport, where: str, known: Mapping[str, str]) -> list[Observation]:
    if log.name in known:
        remedy = (
            "look whether the address is another server's. If its data is lost, read 'Loss' "
            "in RUNBOOKS.md before you start anything"
        )
        return [bad("log", f"{where} holds none, and there was one", remedy, promise=11)]
    found = [fine("log", "not made yet: the first process that starts makes it")]
    if isinstance(log, ForeseesFirstStart):
        foreseen = await answer(log.first_start(), within=_WITHIN)
        if foreseen.durability is not None:
            found += examine_durability(foreseen.durability)
        if foreseen.rights is not None:
            found.append(_rights(foreseen.rights))
    return found


def _of_server(facts: ServerFacts, asked: float, answered: float) -> Iterator[Observation]:
    yield fine("version", facts.version)
    if facts.role is not None:
        if facts.writable:
            yield fine("role", facts.role)
        else:
            yield bad(
                "role", facts.role, "lead this log's settings to the server that takes writes"
            )
    yield from _primaries(facts.primaries)
    if facts.lacks_replicas:
        yield bad(
            "replicas",
            str(facts.replicas),
            "bring the replicas back, or lower REDIS_WAIT_REPLICAS: until then POSTs get 503",
        )
    elif facts.replicas is not None:
        yield fine("replicas", facts.replicas)
    if facts.is_full:
        yield bad(
            "server memory",
            f"full: {facts.memory}",
            "give it memory, or let workers drain the log: until then POSTs get 503",
        )
    elif facts.memory is not None:
        yield fine("server memory", facts.memory)
    if facts.unencrypted is not None:
        yield warning(
            "encryption",
            f"none on the way to {facts.unencrypted}",
            "set REDIS_TLS, or KAFKA_SECURITY_PROTOCOL (docs/managed_kafka.md)",
        )
    yield from examine_certificates(facts.certificates)
    if facts.clock is not None:
        yield clock(facts.clock, asked, answered)


def _primaries(warnings: Sequence[str] | None) -> Iterator[Observation]:
    for text in warnings or ():
        yield bad("primary", text, "RUNBOOKS.md, 'Redis has two primaries'", promise=1)
    if warnings is not None and not warnings:
        yield fine("primary", "no other server that the sentinels know reports this role")


async def _of_log(log: Transport, known: Mapping[str, str]) -> AsyncIterator[Observation]:
    identity = await answer(log.identity(), within=_WITHIN)
    if known.get(log.name, identity) != identity:
        yield bad(
            "identity",
            "another log than the one that its name means",
            f"lead the settings of {log.name} to the log that the service uses; if it was made "
            f"anew on purpose, 'crossfade migrate forget-log {log.name} --why ...'",
            promise=3,
        )
    else:
        yield fine("identity", "the same server and log as ever under this name")
    for observation in examine_durability(await answer(log.durability(), within=_WITHIN)):
        yield observation
    if isinstance(log, TellsRights):
        yield _rights(await answer(log.lacking_rights(), within=_WITHIN))
    progress = await answer(log.progress(Topic.MESSAGES, group=WORKER_GROUP), within=_WITHIN)
    lags = [part.lag for part in progress if part.lag is not None]
    if loss := loss_of(log.name, progress):
        yield _loss(loss)
    if len(lags) < len(progress):
        yield unknown(
            "records",
            f"how many wait is not known in {len(progress) - len(lags)} of {len(progress)} "
            f"partitions; {sum(lags):,} wait in the others",
            "if somebody removed records: it is known again once workers have read past them",
        )
        return
    yield fine("records", f"{sum(lags):,} wait for workers, in {len(lags)} partitions")


def _loss(loss: Loss) -> Observation:
    sentence = loss_sentence(loss)
    if sentence.level == "alarm":
        return bad("records", sentence.text, sentence.next or "", promise=11)
    return fine("records", sentence.text)


def _rights(lacking: LackingRights | None) -> Observation:
    if lacking is None:
        return unknown("rights", "the server does not tell", "ask who runs it")
    if lacking.needed:
        return bad(
            "rights",
            f"our user lacks {', '.join((*lacking.needed, *lacking.useful))}",
            "give it these (docs/redis.md, docs/managed_kafka.md)",
        )
    if lacking.useful:
        return warning(
            "rights",
            f"our user lacks {', '.join(lacking.useful)}",
            "docs/redis.md says what is less safe, or not known, without each",
        )
    return fine("rights", "our user may do all that is needed")


def examine_durability(durability: Durability) -> Iterator[Observation]:
    """Yield the observations of what an acknowledged record survives.

    Several machines that confirm an append make up for a missing flush, as in the gate
    ``durability``: a power cut of one machine leaves the copies of the others.
    """
    evidence = ", ".join(f"{name}={value}" for name, value in sorted(durability.figures.items()))
    faults = {"a crash of the server": durability.crash, "a power cut": durability.power}
    lacks = [what for what, kept in faults.items() if kept is False]
    every = {**faults, "a lost disk": durability.disk}
    untold = [what for what, kept in every.items() if kept is None]
    copied = durability.crash and durability.disk
    if untold and not copied and (durability.crash is None or not lacks):
        yield unknown(
            "durability",
            f"not told whether messages survive {' and '.join(untold)} ({evidence})",
            "ask who runs it; docs/durability.md says what an acknowledgement needs",
        )
    elif lacks and not copied:
        yield bad(
            "durability",
            f"{' and '.join(lacks)} may lose acknowledged messages ({evidence})",
            "set it as docs/durability.md says",
            promise=1,
        )
    elif not durability.disk:
        yield warning(
            "durability",
            f"one machine lost with its disk may lose acknowledged messages ({evidence})",
            "keep copies on other machines: docs/durability.md",
            promise=1,
        )
    else:
        kept = [*(what for what, kept in faults.items() if kept), "a lost disk"]
        but = ", not a power cut of all machines at once" if lacks else ""
        if untold:
            but = "; not told of a power cut of all machines at once"
        yield fine("durability", f"survives {', '.join(kept)}{but} ({evidence})")
    if durability.cut_off:
        yield warning("partition", durability.cut_off, "docs/durability.md#replicas", promise=1)
