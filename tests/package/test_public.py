"""``crossfade`` is the one door: its exports are public, and the documentation needs no other."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "crossfade").glob("[a-z]*.py"))
DOORS = ["crossfade", "crossfade_client", *(f"crossfade.{module}" for module in MODULES)]
OF_THE_CLIENT = {path.stem for path in (ROOT / "clients/python/crossfade_client").glob("[a-z]*.py")}
INSIDE = {path.parent.name for path in ROOT.glob("*/py.typed")} - {"crossfade"}
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "clients").rglob("*.md")]


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(request.param)


def test_everything_it_exports_is_there_and_is_documented(door: ModuleType) -> None:
    assert len(set(door.__all__)) == len(door.__all__)
    for name in door.__all__:
        exported = getattr(door, name)
        if inspect.isclass(exported) or inspect.isfunction(exported):
            documented = exported.__doc__ or name.startswith("test_")
            assert documented, f"{door.__name__}.{name} has no docstring"
    assert door.__doc__


def test_it_has_no_other_public_name(door: ModuleType) -> None:
    names = {name for name in vars(door) if not name.startswith("_")}
    # ``annotations`` comes of ``from __future__ import annotations``.
    inside = OF_THE_CLIENT if door.__name__ == "crossfade_client" else {*MODULES, "TYPE_CHECKING"}
    assert names - set(door.__all__) <= {*inside, "annotations"}


def test_the_client_has_the_same_names_behind_each_door() -> None:
    doors = [import_module(name) for name in ("crossfade", "crossfade.client", "crossfade_client")]
    assert len({tuple(door.__all__) for door in doors}) == 1
    assert len({door.Client for door in doors}) == 1


def test_the_client_comes_without_the_service() -> None:
    """An application that sends messages loads neither PostgreSQL's driver nor Kafka's."""
    code = "from crossfade import Client; import sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert {"crossfade", "crossfade_client"} <= loaded
    assert loaded & (INSIDE | {"asyncpg", "aiokafka", "fastapi", "sqlalchemy", "redis"}) == set()


def _imports(page: Path) -> list[tuple[str, str]]:
    """Return the pairs (module, name) that the Python blocks of a page import."""
    found = []
    for block in re.findall(r"(?ms)^ *```python\n(.*?)^ *```", page.read_text("utf-8")):
        statements = re.findall(r"(?m)^ *((?:from \S+ )?import (?:\([^)]*\)|.*))", block)
        for node in ast.parse("\n".join(statements)).body:
            if isinstance(node, ast.ImportFrom):
                found += [(node.module or "", alias.name) for alias in node.names]
            elif isinstance(node, ast.Import):
                found += [(alias.name, "") for alias in node.names]
    return found


def test_the_documentation_imports_from_the_door_alone() -> None:
    ours = [
        (page.name, module, name)
        for page in PAGES
        for module, name in _imports(page)
        if module.partition(".")[0] in INSIDE | {"crossfade", "crossfade_client"}
    ]
    assert len(ours) > 5
    wrong = [
        (page, module, name)
        for page, module, name in ours
        if module not in DOORS
        or (name not in {"", "*"} and name not in import_module(module).__all__)
    ]
    assert wrong == []
