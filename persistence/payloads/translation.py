"""The client's exceptions into ours (``persistence.payloads.errors``), in one place."""

from __future__ import annotations

import re

from persistence.payloads.errors import PayloadError, PayloadMissing, PayloadOutage

__all__ = ["translate"]

# 404 is also the answer for a bucket that is not there, and no message is at fault for that.
_NO_STORE = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_REFUSED = {"PermissionDeniedError", "UnauthenticatedError"}


def translate(error: Exception, key: str) -> PayloadError:
    """Translate an exception that a call about ``key`` raised.

    Everything that says nothing of the object itself is an outage: a refusal, a time-out, an answer
    of 5xx, and what this version has no rule for.
    """
    if isinstance(error, PayloadError):
        return error
    if isinstance(error, TimeoutError):
        return PayloadOutage("the payload store gave no answer in time (PAYLOAD_TIMEOUT_MS)")
    # The first line; a dump of the client's structures follows it.
    text = str(error).partition("\n")[0]
    if isinstance(error, FileNotFoundError):
        if _NO_STORE.search(text):
            return PayloadOutage(f"the bucket of PAYLOAD_STORE is not there: {text}")
        return PayloadMissing(f"the payload store has no object {key}")
    if type(error).__name__ in _REFUSED or "403 Forbidden" in text:
        return PayloadOutage(f"the payload store refuses us; check its credentials: {text}")
    return PayloadOutage(f"the payload store failed: {text}")
