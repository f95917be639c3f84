"""The remaining life of a token, by its own claims."""

from __future__ import annotations

import base64
import binascii
import json
import time

__all__ = ["seconds_left"]


def seconds_left(token: str) -> float | None:
    """Return how many seconds a JWT is valid from now on (RFC 7519, ``exp``).

    ``None`` if it is no JWT or has no ``exp``. The signature is not checked; the broker does that.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) - time.time()
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None
