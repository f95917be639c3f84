"""Translate the client's exceptions into ours (``persistence.payloads.errors``), in one place."""

from __future__ import annotations

import re

from persistence.payloads.errors import (
    PayloadError,
    PayloadMissing,
    PayloadOutage,
    PayloadUnreadable,
)

__all__ = ["is_refusal", "translate"]

# 404 is also the answer for a bucket that does not exist, and no message is at fault for that.
_NO_STORE = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_OWN_FAULT = re.compile("<Code>(KeyTooLongError|InvalidObjectState)</Code>|Could not parse path")
_REFUSED = {"PermissionDeniedError", "UnauthenticatedError"}
_EXPIRED = re.compile("ExpiredToken|TokenRefreshRequired|InvalidToken")
_NO_ROLE = (
    "can't be asked without credentials, and this machine has no role that gives some; set "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
# Answers with a remedy of their own, by their names in the store or the client.
_REMEDIES = (
    (re.compile("/latest/(?:api/token|meta-data)|/v[23]/credentials|169[.]254[.]"), _NO_ROLE),
    (re.compile("RequestTimeTooSkewed|RequestExpired"), "refuses us; set this machine's clock"),
    (
        _EXPIRED,
        "refuses us; renew AWS_SESSION_TOKEN and its key, and restart the processes",
    ),
    (
        re.compile("invalid path|walk dir"),
        "can't be listed; move away, or let this user read, what another program has in it",
    ),
    (re.compile("cross-device link"), "can't move files; keep its folder on one file system"),
    (re.compile("No space left|quota exceeded"), "is full; make room"),
    (re.compile("Read-only file system"), "can't be written; mount it for writing"),
    (
        re.compile(r"os error 13\b|Errno 13\b"),
        "refuses us; let this process's user read and write all of its folder",
    ),
    (
        re.compile("AuthorizationHeaderMalformed|Redirect|redirect"),
        "is elsewhere; check PAYLOAD_REGION and PAYLOAD_ENDPOINT_URL",
    ),
    (re.compile("SlowDown|ServerBusy|TooManyRequests|429 "), "asks us to slow down"),
    (re.compile("HTTP error: "), "can't be reached"),
)

_SILENT = "the payload store gave no answer in time (PAYLOAD_TIMEOUT_MS)"
_SILENT_ROLE = (
    ", or this machine gave no credentials: AWS_ACCESS_KEY_ID is not set, so its role is asked"
)

# The client's text is one sentence about the request, then the store's answer, then a dump of its
# structures. Only the dump has the reason of a failed connection.
_DUMP = "\n\nDebug source:"
_LEAD = re.compile(
    r"Generic \w+ error: |Error performing (?:list request: Error performing )?"
    r"|The operation lacked [\w ]+ for path \S+: |Object at location \S+ not found: "
)
_TIMES = re.compile(r" in [\d.]+\w+(?:, after \d+ retries, max_retries: \d+, [^-]*)? *- ")
_STATUS = "Server returned non-2xx status code: "
_BODY = re.compile(r"<(?:\?xml|Error)\b.*")
_SAID = re.compile(r"<(Code|Message)>(.*?)</\1>")
_UNSENT = "error sending request"
_REASON = re.compile(r'(?:message|error): "([^"]+)"|InvalidCertificate\(\s*(\w+)')


def translate(error: Exception, key: str, *, asks_role: bool = False) -> PayloadError:
    """Translate an exception that a call about ``key`` raised.

    Every error that is not about the object itself is an outage: a refusal, a time-out, an answer
    of 5xx, and an error without a rule.

    Args:
        error: the exception.
        key: the object's key.
        asks_role: whether the client asks the machine for credentials before it asks the store.
    """
    if isinstance(error, PayloadError):
        return error
    if isinstance(error, TimeoutError):
        return PayloadOutage(f"{_SILENT}{_SILENT_ROLE if asks_role else ''}")
    whole = str(error)
    text = _text(whole)
    if _OWN_FAULT.search(whole):
        return PayloadUnreadable(f"the payload store can't give the object {key}: {text}")
    if _NO_STORE.search(whole):
        return PayloadOutage(f"the bucket of PAYLOAD_STORE is not there: {text}")
    if isinstance(error, FileNotFoundError):
        return PayloadMissing(f"the payload store has no object {key}")
    return PayloadOutage(f"the payload store {_what(error, text)}: {text}")


def _text(whole: str) -> str:
    """Return the request and its answer in one line, without times, so that it stays the same."""
    text, _, dump = whole.partition(_DUMP)
    text = _LEAD.sub("", " ".join(text.split()))
    text = _TIMES.sub(": ", text).replace(_STATUS, "")
    text = _BODY.sub(_said, text)
    if _UNSENT in text and (reason := _REASON.search(dump)):
        text = text.replace(_UNSENT, reason[1] or f"its certificate is not valid: {reason[2]}")
    return text.rstrip(": ")


def _said(body: re.Match[str]) -> str:
    """Return the code and message in the store's answer; the whole answer if it has neither."""
    return ": ".join(value for _, value in _SAID.findall(body[0])) or body[0][:200]


def _what(error: Exception, text: str) -> str:
    for pattern, what in _REMEDIES:
        if pattern.search(text):
            return what
    return "refuses us; check its credentials" if is_refusal(error) else "failed"


def is_refusal(error: Exception) -> bool:
    """Return whether the store refused the credentials, or what was asked with them."""
    text = str(error)
    return (
        type(error).__name__ in _REFUSED
        or "403 Forbidden" in text
        or _EXPIRED.search(text) is not None
    )
