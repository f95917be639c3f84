"""The client's exceptions into ours (``persistence.payloads.errors``), in one place."""

from __future__ import annotations

import re

from persistence.payloads.errors import (
    PayloadError,
    PayloadMissing,
    PayloadOutage,
    PayloadUnreadable,
)

__all__ = ["translate"]

# 404 is also the answer for a bucket that is not there, and no message is at fault for that.
_NO_STORE = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_OWN_FAULT = re.compile("<Code>(KeyTooLongError|InvalidObjectState)</Code>|Could not parse path")
_REFUSED = {"PermissionDeniedError", "UnauthenticatedError"}
# Answers with a remedy of their own, by what the store or the client calls them.
_REMEDIES = (
    (re.compile("RequestTimeTooSkewed|RequestExpired"), "refuses us; set this machine's clock"),
    (
        re.compile("AuthorizationHeaderMalformed|Redirect|redirect"),
        "is elsewhere; check PAYLOAD_REGION and PAYLOAD_ENDPOINT_URL",
    ),
    (re.compile("SlowDown|ServerBusy|TooManyRequests|429 "), "asks us to slow down"),
)


def translate(error: Exception, key: str) -> PayloadError:
    """Translate an exception that a call about ``key`` raised.

    Everything that says nothing of the object itself is an outage: a refusal, a time-out, an answer
    of 5xx, and what this version has no rule for.
    """
    if isinstance(error, PayloadError):
        return error
    if isinstance(error, TimeoutError):
        return PayloadOutage("the payload store gave no answer in time (PAYLOAD_TIMEOUT_MS)")
    # The first line is for people; the store's answer may go on behind it, and a dump of the
    # client's structures follows.
    whole = str(error)
    text = whole.partition("\n")[0]
    if _OWN_FAULT.search(whole):
        return PayloadUnreadable(f"the payload store can't give the object {key}: {text}")
    if isinstance(error, FileNotFoundError):
        if _NO_STORE.search(whole):
            return PayloadOutage(f"the bucket of PAYLOAD_STORE is not there: {text}")
        return PayloadMissing(f"the payload store has no object {key}")
    return PayloadOutage(f"the payload store {_what(error, text)}: {text}")


def _what(error: Exception, text: str) -> str:
    for pattern, what in _REMEDIES:
        if pattern.search(text):
            return what
    refused = type(error).__name__ in _REFUSED or "403 Forbidden" in text
    return "refuses us; check its credentials" if refused else "failed"
