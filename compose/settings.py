"""Reads and checks all settings of the service; each error is one line with its remedy."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from compose.log_disagreements import log_disagreements
from ingress.settings import IngressSettings
from ingress.web.auth import Authenticator
from otel.settings import OtelSettings
from otel.tracing.settings import TracingSettings
from persistence.payloads.settings import PayloadSettings
from persistence.settings import PersistenceSettings
from transport.environment_settings import EnvironmentSettings
from transport.errors import ConfigurationError
from transport.log_name import LogName
from transport.log_settings import own_settings, own_variable
from transport.redis_url import masked_url
from transport.settings import TransportSettings

__all__ = [
    "ENV_FILE",
    "Effective",
    "ProcessSettings",
    "Settings",
    "SettingsError",
    "effective",
    "known",
    "load",
    "misspelt",
    "otel_variables",
    "servers",
]

ENV_FILE = Path(".env")
MASK = "***"


class ProcessSettings(EnvironmentSettings):
    """How a process stops."""

    shutdown_delay_seconds: Annotated[float, Field(ge=0, le=300)] = 2.0
    """After a request to stop, how long a process that accepts still serves requests while
    ``/readyz`` answers "not ready". Set it longer than load balancers take to notice that."""
    shutdown_grace_seconds: Annotated[int, Field(ge=2, le=600)] = 20
    """How long requests and batches under way may take to end. Messages that are cut off are not
    lost: they were not acknowledged, or stay in the log."""


class CommandSettings(EnvironmentSettings):
    """How commands that send messages, and the Python client, find the API."""

    crossfade_url: str | None = None
    """URL of the API, such as ``https://messages.example``. Not set: ``HOST`` and ``PORT`` for
    commands, http://localhost:3000 for the client."""
    crossfade_api_key: SecretStr | None = None
    """The API key of each request, as ``crossfade keys new`` printed it."""


_CLASSES: tuple[type[BaseSettings], ...] = (
    TransportSettings,
    PersistenceSettings,
    PayloadSettings,
    IngressSettings,
    OtelSettings,
    TracingSettings,
    ProcessSettings,
    CommandSettings,
)


class Settings(NamedTuple):
    """The settings of every part."""

    transport: TransportSettings
    persistence: PersistenceSettings
    payloads: PayloadSettings
    ingress: IngressSettings
    otel: OtelSettings
    tracing: TracingSettings
    process: ProcessSettings
    commands: CommandSettings


class SettingsError(Exception):
    """Some settings can't work: one line each, naming the variable, its value and the remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Effective(NamedTuple):
    """The value in force of one setting, and its source; ``value`` is masked if it is secret."""

    name: str
    value: str
    source: str


def load(overrides: Mapping[str, Any] | None = None, *, env_file: Path = ENV_FILE) -> Settings:
    """Read the settings from the environment and from ``.env``.

    Args:
        overrides: Values by variable name, which override both.
        env_file: The file to read in place of ``.env``.

    Raises:
        SettingsError: some settings can't work; it has all problems, not only the first.
    """
    given = {name.lower(): value for name, value in (overrides or {}).items()}
    made: list[BaseSettings] = []
    problems: list[str] = []
    for kind in _CLASSES:
        mine = {name: value for name, value in given.items() if name in kind.model_fields}
        try:
            made.append(kind(_env_file=env_file, _env_ignore_empty=True, **mine))
        except ValidationError as error:
            problems.extend(_explain(kind, detail) for detail in error.errors(include_url=False))
    if problems:
        raise SettingsError(problems)
    settings = Settings(*made)  # type: ignore[arg-type]  # one of each, in order
    variables = _variables(given, env_file)
    settings = settings._replace(transport=_with_labels(settings.transport, variables))
    if problems := [
        *log_disagreements(settings.transport, variables),
        *_disagreements(settings),
    ]:
        raise SettingsError(problems)
    return settings


def effective(
    settings: Settings, overrides: Mapping[str, Any] | None = None, *, env_file: Path = ENV_FILE
) -> list[Effective]:
    """Return every setting with its value and its source."""
    in_environment = {name.upper() for name, value in os.environ.items() if value}
    in_file = {name.upper() for name, value in dotenv_values(env_file).items() if value}

    def source(name: str) -> str:
        if name in (overrides or {}):
            return "command"
        if name in in_environment:
            return "environment"
        return str(env_file) if name in in_file else "default"

    rows: list[Effective] = []
    seen: set[str] = set()
    for part in settings:
        for field, info in type(part).model_fields.items():
            name, value = field.upper(), getattr(part, field)
            if name in seen:  # several classes have this setting
                continue
            seen.add(name)
            rows.append(Effective(name, _shown(value, info), source(name)))
    for label, own in own_settings(_variables(overrides, env_file)).items():
        values = settings.transport.labelled[label]
        for field in own:
            name, value = own_variable(label, field), getattr(values, field)
            info = TransportSettings.model_fields[field]
            rows.append(Effective(name, _shown(value, info), source(name)))
    return rows


def servers(settings: Settings, overrides: Mapping[str, Any] | None = None) -> str:
    """Return the consumed log and the database as text, each with the source of its address.

    For example ``redis localhost:6379/1 (default), postgresql://localhost/crossfade (.env)``.
    Addresses from ``overrides`` have no source in the text.
    """
    rows = {row.name: row for row in effective(settings, overrides)}
    log = LogName.parse(settings.transport.consumed)
    described = []
    for fields in (settings.transport.of(log).address_fields(log.kind), ("database_url",)):
        if not fields:
            continue
        found = [
            rows.get(own_variable(log.label or "", field)) or rows[field.upper()]
            for field in fields
        ]
        address = ":".join(row.value for row in found[:2])
        if fields != ("database_url",):
            address = f"{log} {address}" + "".join(f"/{row.value}" for row in found[2:])
        sources = dict.fromkeys(row.source for row in found[:2])
        source = " and ".join(source for source in sources if source != "command")
        described.append(f"{address} ({source})" if source else address)
    return ", ".join(described)


def known() -> set[str]:
    """Return the names of all settings, including those of labelled logs in this environment."""
    names = {field.upper() for kind in _CLASSES for field in kind.model_fields}
    own = own_settings(_variables({}, ENV_FILE))
    return names | {own_variable(label, field) for label in own for field in own[label]}


def unseen(overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in force that another terminal does not have; secrets are not masked."""
    ours = known()
    here = {name: value for name, value in os.environ.items() if name in ours and value}
    return {**here, **overrides}


def misspelt() -> list[str]:
    """Return a line for each variable whose name resembles a setting's and is none."""
    names = known()
    ours = (
        "TRANSPORT_",
        "STREAM_",
        "INGRESS_",
        "IDEMPOTENCY_",
        "API_KEY",
        "ENABLE_STREAM",
        "PAYLOAD_",
    )
    return [
        f"{name} is not a setting and does nothing; did you mean {near[0]}?"
        for name in sorted({*os.environ, *dotenv_values(ENV_FILE)} - names)
        if name.startswith(ours) and (near := difflib.get_close_matches(name, names, 1, 0.8))
    ]


def otel_variables() -> dict[str, str]:
    """Return OpenTelemetry's variables in ``.env``; the SDK itself reads the environment alone."""
    names = ((name.upper(), value) for name, value in dotenv_values(ENV_FILE).items())
    return {name: value for name, value in names if value and name.startswith("OTEL_")}


def _disagreements(settings: Settings) -> Iterator[str]:
    """Yield errors that need the settings of several parts."""
    ingress, otel = settings.ingress, settings.otel
    if ingress.port == otel.metrics_port:
        yield f"METRICS_PORT={otel.metrics_port} is also PORT; give it another"
    try:
        Authenticator(ingress)
    except ConfigurationError as error:
        yield str(error)


def _variables(overrides: Mapping[str, Any] | None, env_file: Path) -> dict[str, str]:
    """Return every variable that has a value."""
    sources = (dotenv_values(env_file), os.environ, overrides or {})
    return {
        name.upper(): str(value) for source in sources for name, value in source.items() if value
    }


def _with_labels(transport: TransportSettings, variables: Mapping[str, str]) -> TransportSettings:
    """Return the settings with those of labelled logs, which override the common ones.

    Raises:
        SettingsError: a setting of a labelled log can't work.
    """
    made: dict[str, TransportSettings] = {}
    problems: list[str] = []
    for label, own in own_settings(variables).items():
        try:
            inherited = transport.model_dump()
            if {"redis_host", "redis_port"} & own.keys():
                inherited["redis_url"] = None
            made[label] = TransportSettings(**{**inherited, **own})
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                said = _explain(TransportSettings, detail)
                problems.append(f"LOG_{label.upper()}_{said}")
    if problems:
        raise SettingsError(problems)
    return transport.with_labels(made)


def _explain(kind: type[BaseSettings], detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:  # an error of several variables; the message names them
        return message
    field = str(detail["loc"][0])
    info = kind.model_fields[field]
    remedy = message if detail["type"] == "value_error" else f"give {_allowed(info)}"
    value = _without_credentials(_shown(detail["input"], info))
    return f"{field.upper()}={value!r} can't be used: {remedy}"


def _shown(value: object, info: FieldInfo) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return _address(value.get_secret_value())
    if SecretStr in _types(info.annotation):
        return MASK
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _without_credentials(refused: str) -> str:
    """Return a refused value for an error's text, with user and query of an address masked.

    These are not allowed in such a setting, and often the reason for the error.
    """
    return re.sub("[?#].*", f"?{MASK}", re.sub(r"^(\w+://)?.*@", rf"\1{MASK}@", refused))


def _address(secret: str) -> str:
    """Return a masked secret; for an address, mask only the password and the options."""
    try:
        parts = urlsplit(secret)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return masked_url(secret)  # an address with several servers
    if not (parts.scheme.startswith("postgres") and parts.hostname):
        return masked_url(secret)
    user = f"{parts.username}:{MASK}@" if parts.password else f"{parts.username}@"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{user if parts.username else ''}{host}{port}{parts.path}"


def _allowed(info: FieldInfo) -> str:
    """Describe a field's allowed values, from its type and limits."""
    choices = [
        str(c) for t in _types(info.annotation) if get_origin(t) is Literal for c in get_args(t)
    ]
    if choices:
        return f"one of {', '.join(choices)}"
    types = _types(info.annotation)
    if bool in types:
        return "true or false"
    if int not in types and float not in types:
        return "another value"
    noun = "a whole number" if int in types else "a number"
    limits = [*info.metadata, *_limits(info.annotation)]
    low = next((m.ge for m in limits if isinstance(m, Ge)), None)
    above = next((m.gt for m in limits if isinstance(m, Gt)), None)
    high = next((m.le for m in limits if isinstance(m, Le)), None)
    start = f" from {low}" if low is not None else f" above {above}" if above is not None else ""
    return noun + start + (f" to {high}" if high is not None else " up" if low is not None else "")


def _types(annotation: Any) -> list[Any]:
    """Return the members of a union, without ``None`` and without ``Annotated``."""
    if get_origin(annotation) in (Union, UnionType):
        members = [t for a in get_args(annotation) for t in _types(a)]
        return [t for t in members if t is not NoneType]
    if get_origin(annotation) is Annotated:
        return _types(get_args(annotation)[0])
    return [annotation]


def _limits(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [m for a in get_args(annotation) for m in _limits(a)]
    if get_origin(annotation) is Annotated:
        found: list[Any] = []
        for note in get_args(annotation)[1:]:
            found.extend(note.metadata if isinstance(note, FieldInfo) else [note])
        return found
    return []
