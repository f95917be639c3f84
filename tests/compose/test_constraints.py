"""constraints.txt pins everything that ``make`` installs, what others pull in too."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def _closure(name: str, extras: frozenset[str], seen: dict[str, str]) -> dict[str, str]:
    """Return the installed packages that ``name[extras]`` requires, itself too, with versions."""
    try:
        found = distribution(name)
    except PackageNotFoundError:  # an extra that this environment does without
        return seen
    seen[canonicalize_name(name)] = found.version
    for text in found.requires or ():
        required = Requirement(text)
        wanted = required.marker is None or any(
            required.marker.evaluate({"extra": extra}) for extra in extras | {""}
        )
        if wanted and canonicalize_name(required.name) not in seen:
            _closure(required.name, frozenset(required.extras), seen)
    return seen


def test_every_package_of_the_environment_is_pinned_to_the_version_that_runs_the_tests():
    installed = _closure("crossfade", frozenset({"local", "dev"}), {})
    for ours in ("crossfade", "crossfade-client", "crossfade-lab"):
        installed.pop(ours, None)
    pins = _pins()
    assert len(installed) > 50  # the walk walked
    assert {name: pins.get(name) for name in installed} == installed
