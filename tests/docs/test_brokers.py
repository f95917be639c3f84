"""Nothing above ``transport/`` names a broker or reads an offset; it asks the contract."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABOVE = ("otel", "persistence", "ingress", "migration_guide", "compose", "crossfade", "lab")
BROKERS = {"redis", "kafka", "memory"}
NAMES_THEM = {
    "persistence/fleet/log_choice.py": "the first pair of logs",
    "migration_guide/phases.py": "logs with a name in sentences",
    "persistence/tables/migration.py": "the pair before pairs were recorded",
    "persistence/migrations/versions": "the pair before pairs were recorded",
    "ingress/openapi/examples.py": "an example",
    "compose/log_disagreements.py": "each broker has settings of its own",
    "compose/process/settings_warnings.py": "the same",
    "compose/local": "starts servers",
    "compose/commands/up/panel.py": "shows the servers that were started",
    "compose/dashboards": "texts for people",
    "lab/bench": "measures each log",
    "lab/commands": "names the servers that it can start",
    "lab/rehearsal": "starts servers, and draws each in its colour",
    "lab/soak": "starts servers, and measures each",
}
READS_ONE = {"otel/tracing/span.py": "OpenTelemetry wants a number where the log says it is one"}


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for package in ABOVE:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def _broker(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value in BROKERS


def _offset(node: ast.AST) -> bool:
    """Tell whether an expression is an offset, or what sorts one, by its name."""
    match node:
        case ast.Call(func=func):
            return _offset(func)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.endswith(("offset", "sort_key"))
    return False


def _reads(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="int" | "len"), args=[one]):
            return _offset(one)
        case ast.Call(func=ast.Attribute(value=one, attr="split" | "partition" | "rpartition")):
            return _offset(one)
        case ast.Subscript(value=one, slice=taken):  # a slice only cuts what is shown
            return _offset(one) and not isinstance(taken, ast.Slice)
    return False


@pytest.mark.parametrize(("found", "allowed"), [(_broker, NAMES_THEM), (_reads, READS_ONE)])
def test_nothing_above_the_transport_knows_a_broker(found, allowed):
    places = {
        f"{name}:{node.lineno}"
        for name, tree in _sources()
        if not name.startswith(tuple(allowed))
        for node in ast.walk(tree)
        if found(node)
    }
    assert not places, "the contract (transport/contract) says what can be asked of a log"


@pytest.mark.parametrize(
    "code",
    ["int(record.offset)", "offset.split('-')", "len(log.sort_key(a))", "log.sort_key(a)[0]"],
)
def test_reading_an_offset_is_seen(code):
    assert any(map(_reads, ast.walk(ast.parse(code))))
