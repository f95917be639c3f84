"""Handles missing requirements of a test: a skip on a developer's machine, a failure in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

__all__ = ["absent", "program"]


def absent(what: str) -> NoReturn:
    """Skip the test with a note; in CI, fail it, so that no test is skipped unnoticed."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(what, pytrace=False)
    pytest.skip(f"NOT TESTED: {what}")


def program(name: str, *, package: str) -> str:
    """Return the path of a program, of that name in Debian's ``package``."""
    return shutil.which(name) or absent(f"no {name} on the PATH: `apt-get install {package}`")
