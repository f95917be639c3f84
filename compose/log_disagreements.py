"""Finds errors in the settings of the logs: of a single log, and of several together."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from transport.errors import ConfigurationError
from transport.log_name import LogName
from transport.log_settings import own_variable, refusals
from transport.redis_url import RedisUrl
from transport.registry import known_name
from transport.settings import TransportSettings

__all__ = ["log_disagreements"]

# Connections to Redis besides those of partitions: commands, health, progress, ingress ticks.
_REDIS_SPARE = 8


def log_disagreements(transport: TransportSettings, variables: Collection[str]) -> Iterator[str]:
    """Yield one line for each error, with the variable and the remedy.

    Args:
        transport: The settings.
        variables: The names of all variables that have a value.
    """
    yield from _of_redis_urls(transport, variables)
    yield from _of_shadow(transport)
    yield from _of_each(transport)
    yield from refusals(variables, _labels(transport))


def _of_redis_urls(transport: TransportSettings, variables: Collection[str]) -> Iterator[str]:
    """Yield an error for each value that is set twice: in a URL, and in its own setting."""
    own = [(own_variable(label, ""), its) for label, its in transport.labelled.items()]
    for prefix, settings in (("", transport), *own):
        if f"{prefix}REDIS_URL" not in variables or settings.redis_url is None:
            continue
        url = RedisUrl.parse(settings.redis_url.get_secret_value())
        said = {
            "REDIS_HOST": True,
            "REDIS_PORT": True,
            "REDIS_STREAM_DB": url.database is not None,
            "REDIS_USERNAME": url.username is not None,
            "REDIS_PASSWORD": url.password is not None,
        }
        for name, is_said in said.items():
            if is_said and f"{prefix}{name}" in variables:
                yield f"{prefix}REDIS_URL says what {prefix}{name} says: unset one of them"


def _of_shadow(transport: TransportSettings) -> Iterator[str]:
    shadow = transport.transport_shadow
    if shadow is None and "transport_shadow_mode" in transport.model_fields_set:
        yield (
            f"TRANSPORT_SHADOW_MODE={transport.transport_shadow_mode} says how to write to a "
            "shadow, and there is none; name one in TRANSPORT_SHADOW, or unset the mode"
        )
    if shadow is not None and shadow == transport.transport:
        yield (
            f"TRANSPORT_SHADOW={shadow!r} is also TRANSPORT; name another log, or unset it to "
            "write to one log only"
        )


def _named(transport: TransportSettings) -> Iterator[tuple[str, str]]:
    """Yield each variable that names a log, with the name."""
    for variable in ("TRANSPORT", "TRANSPORT_SHADOW", "CONSUME_FROM"):
        if name := getattr(transport, variable.lower()):
            yield variable, name
    for name in transport.others:
        yield "OTHER_LOGS", name


def _labels(transport: TransportSettings) -> set[str]:
    """Return the labels of the named logs; skip names that are malformed."""
    labels = set()
    for _, text in _named(transport):
        with contextlib.suppress(ConfigurationError):
            labels.add(LogName.parse(text).label)
    return {label for label in labels if label}


def _of_each(transport: TransportSettings) -> Iterator[str]:
    places: dict[tuple[object, ...], str] = {}
    for variable, text in _named(transport):
        try:
            name = known_name(text, variable=variable)
            own = transport.of(name)
        except ConfigurationError as error:
            yield str(error)
            continue
        count, given = own.stream_partitions, f"{variable}={text}"
        if name.kind == "redis" and own.redis_pool_size < count + _REDIS_SPARE:
            yield (
                f"REDIS_POOL_SIZE={own.redis_pool_size} is too few for {given} of {count} "
                "partitions, since one process may come to own them all; give "
                f"{count + _REDIS_SPARE} or more"
            )
        address = own.place(name.kind)
        place = (name.kind, name.partitions, *address) if address else (text,)
        other = places.setdefault(place, text)
        if other != text:
            yield (
                f"{given} is {other} under another name: both are at "
                f"{_shown(address)}; name one log, or set the other server's address"
            )


def _shown(address: tuple[object, ...]) -> str:
    flat = (
        ":".join(map(str, part)) if isinstance(part, tuple) else str(part)
        for part in address
        if part is not None
    )
    return ":".join(flat)
