"""Settings of labelled logs: in ``kafka.eu``, ``LOG_EU_KAFKA_TOPIC`` replaces ``KAFKA_TOPIC``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping

from transport.settings import TransportSettings

__all__ = ["own_settings", "own_variable", "refusals"]

_VARIABLE = re.compile(r"LOG_([A-Z0-9]{1,16})_([A-Z0-9_]+)")
_OF_A_LOG = re.compile(r"redis_|kafka_|idempotency_|stream_retention_")
_SETTINGS = {name for name in TransportSettings.model_fields if _OF_A_LOG.match(name)}


def own_variable(label: str, setting: str) -> str:
    """Return the variable of a setting for logs with a label."""
    return f"LOG_{label}_{setting}".upper()


def own_settings(variables: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the settings of labelled logs, by label.

    Args:
        variables: all variables that have a value.
    """
    found: dict[str, dict[str, str]] = {}
    for name, value in variables.items():
        parts = _VARIABLE.fullmatch(name.upper())
        if parts and parts[2].lower() in _SETTINGS:
            found.setdefault(parts[1].lower(), {})[parts[2].lower()] = value
    return found


def refusals(variables: Collection[str], labels: Collection[str]) -> Iterator[str]:
    """Yield an error for each variable of a labelled log that has no effect.

    A variable with an unknown label and an unknown setting is ignored: it is another program's.

    Args:
        variables: the names of all variables.
        labels: the labels of the logs in use.
    """
    for name in sorted(variables):
        parts = _VARIABLE.fullmatch(name.upper())
        if parts is None:
            continue
        label, setting = parts[1].lower(), parts[2].lower()
        if setting in _SETTINGS and label not in labels:
            yield (
                f"{name} is for logs with the label {label}, and no log that is named here has it; "
                f"correct or unset it, or name the log in OTHER_LOGS ({_kind(setting)}.{label})"
            )
        elif setting == "stream_partitions" and label in labels:
            yield f"{name} can't be set; write the number in the log's name (kafka.{label}@32)"
        elif setting not in _SETTINGS and label in labels:
            near = difflib.get_close_matches(setting, _SETTINGS, 1, 0.8)
            remedy = f"did you mean {own_variable(label, near[0])}?" if near else "unset it"
            yield f"{name} is not a setting that a log can have of its own; {remedy}"


def _kind(setting: str) -> str:
    return "redis" if setting.startswith("redis") else "kafka"
