"""The Python that runs this, and whether it was built to be fast."""

from __future__ import annotations

import platform
import sysconfig
from collections.abc import Mapping
from typing import Any

__all__ = ["is_plain", "label"]

_OPTIMISED = "--enable-optimizations"


def is_plain(variables: Mapping[str, Any] | None = None) -> bool:
    """Return whether Python was built without its optimisations, as far as it tells.

    They are off unless whoever builds it asks for them (``./configure --enable-optimizations``).
    pyenv does not ask by itself; the packages of distributions, the container images, python.org's
    installers and uv's builds do.

    Args:
        variables: of the build (``sysconfig.get_config_vars``), if not this interpreter's.
    """
    if variables is None:
        variables = sysconfig.get_config_vars()
    given: str = variables.get("CONFIG_ARGS") or ""
    # Debian optimises without that option, and leaves out the flag that a build of it would take.
    may_optimise = bool(given and variables.get("PGO_PROF_USE_FLAG"))
    return may_optimise and _OPTIMISED not in given


def label() -> str:
    """Return its version, and that it is slow if it is."""
    version = platform.python_version()
    return f"{version} (built without {_OPTIMISED})" if is_plain() else version
