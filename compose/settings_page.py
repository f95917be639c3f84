"""Generates ``docs/settings.md`` from the classes of the settings.

``python -m compose.settings_page > docs/settings.md`` writes it; a test compares page and classes.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from textwrap import dedent
from typing import get_type_hints

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from compose.settings import Settings
from transport.settings import TransportSettings

__all__ = ["page"]

_HEAD = """\
# Settings

All come from the environment. A setting that can't work stops the start with one line that names
it, its value (secrets masked) and the remedy. `crossfade settings` shows those in force and where
each comes from.
"""
_OF_ONE_LOG = """
### Settings of one log

A log's name is `kind[.label][@partitions]`, such as `redis`, `redis@32`, `kafka.eu` or
`kafka.eu@32`. A log with a label reads settings of its own before those above:
`LOG_EU_KAFKA_BOOTSTRAP_SERVERS` is `KAFKA_BOOTSTRAP_SERVERS` for `kafka.eu` and for `kafka.eu@32`.
One log can have any setting above that begins with `REDIS_`, `KAFKA_`,
`STREAM_RETENTION_` or `IDEMPOTENCY_`.

```bash
TRANSPORT=kafka
TRANSPORT_SHADOW=kafka.eu
LOG_EU_KAFKA_BOOTSTRAP_SERVERS=kafka.eu.example:9093
LOG_EU_KAFKA_SECURITY_PROTOCOL=SSL
```

A label is for a log on another server. Two logs on one server differ in their number of
partitions. A variable whose label no log has, or whose setting is none, stops the start.
"""
_TABLE = "\n| name | default | |\n|---|---|---|\n"


def page() -> str:
    """Return ``docs/settings.md``."""
    parts = [_HEAD]
    for name, group in get_type_hints(Settings).items():
        summary = (inspect.getdoc(group) or "").split("\n\n")[0].replace("\n", " ")
        parts += [f"\n## {name.capitalize()}\n\n{summary}\n", _TABLE, *_rows(group)]
        if group is TransportSettings:
            parts.append(_OF_ONE_LOG)
    return "".join(parts)


def _rows(group: type[BaseSettings]) -> Iterator[str]:
    notes = _notes(group)
    for name, field in group.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, SecretStr):
            shown = "(secret)"
        elif default is None:
            shown = "-"
        else:
            shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        yield f"| `{name.upper()}` | {shown} | {notes.get(name, '')} |\n"


def _notes(group: type[BaseSettings]) -> dict[str, str]:
    """Return the docstring of each field, read from the source."""
    (cls,) = ast.parse(dedent(inspect.getsource(group))).body
    assert isinstance(cls, ast.ClassDef)
    notes: dict[str, str] = {}
    for field, note in zip(cls.body, cls.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(note, ast.Expr)
            and isinstance(note.value, ast.Constant)
        ):
            notes[field.target.id] = " ".join(str(note.value.value).split()).replace("``", "`")
    return notes


if __name__ == "__main__":
    sys.stdout.write(page())
