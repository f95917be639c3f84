"""The Python client. It is a package of its own, ``crossfade-client``, and re-exported here."""

from __future__ import annotations

try:
    from crossfade_client import *  # noqa: F403 - all that it exports
    from crossfade_client import __all__ as __all__  # noqa: PLC0414 - exported
except ModuleNotFoundError as error:
    if error.name != "crossfade_client":
        raise
    raise ModuleNotFoundError(
        "the Python client is a package of its own: pip install crossfade-client", name=error.name
    ) from None
