"""The running Python interpreter, and whether it was built with optimizations."""

from __future__ import annotations

import platform
import sysconfig
from collections.abc import Mapping
from typing import Any

__all__ = ["is_plain", "label"]

_OPTIMISED = "--enable-optimizations"


def is_plain(variables: Mapping[str, Any] | None = None) -> bool:
    """Return whether Python was built without optimizations, as far as its build variables show.

    Optimizations are off by default (``./configure --enable-optimizations`` enables them). pyenv
    does not enable them; the packages of distributions, the container images, python.org's
    installers and uv's builds do.

    Args:
        variables: Build variables (``sysconfig.get_config_vars``); by default this interpreter's.
    """
    if variables is None:
        variables = sysconfig.get_config_vars()
    given: str = variables.get("CONFIG_ARGS") or ""
    # Debian optimizes without that option; its builds lack the PGO flag that others have.
    may_optimise = bool(given and variables.get("PGO_PROF_USE_FLAG"))
    return may_optimise and _OPTIMISED not in given


def label() -> str:
    """Return the version, with a note if it was built without optimizations."""
    version = platform.python_version()
    return f"{version} (built without {_OPTIMISED})" if is_plain() else version
