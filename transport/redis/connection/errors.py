"""The translation of redis-py's errors to the transport's errors, in one place.

Each class of ``redis.exceptions`` has a row in ``MEANING``. A test looks for missing rows, so a new
release of the client can't bring an error that we don't know.
"""

from __future__ import annotations

import re

from redis import exceptions as redis

from transport.errors import (
    AppendUnknown,
    ConfigurationError,
    TopicMissing,
    TransportError,
    TransportUnavailable,
    Unwritable,
)
from transport.redis.connection.rights import BETTER, LEAST
from transport.tls_refusals import certificate_refusal

__all__ = [
    "MEANING",
    "is_function_missing",
    "is_of_one_key",
    "is_refusal",
    "is_transient",
    "is_wrong_server",
    "translate",
]

_AUTH = "Redis refused our credentials: check REDIS_USERNAME and REDIS_PASSWORD (or its file)"
_ACL = (
    f"Redis forbids its user a command or key we need: ACL SETUSER <name> {LEAST} (better also "
    f"{BETTER})"
)
_FULL = "Redis is full (maxmemory): give it memory, or let workers drain the log"
_NETWORK = (
    "Redis can't be reached: check REDIS_HOST and REDIS_PORT (or REDIS_URL), and that it runs"
)
_AUTHORITIES, _OWN = "REDIS_TLS_CA_FILE", "REDIS_TLS_CERT_FILE"
_CLUSTER = "the Redis Cluster can't serve this key now"
_MOVING = "the Redis Cluster is moving this key's slot: if this goes on, end that move"
_REFUSED = "Redis refused the command"
_NO_DATABASE = "this Redis has no such database: set REDIS_STREAM_DB (a cluster has only 0)"
_NOT_OURS = (
    "a key of ours (msg:stream:<partition>, msg:dlq, or one beside them) holds something that is "
    "not ours: RENAME or DEL it alone, and it is made anew"
)
_CROWDED = "this Redis takes no more connections: raise its maxclients, or close those of others"
_EXHAUSTED = (
    "somebody appended the highest id there is, and none can follow it in that stream: once its "
    "lag is 0, DEL the stream (msg:stream:<partition>), and it is made anew"
)
_PROTOCOL = "Redis answered what is no reply to our command: check what listens at REDIS_HOST"

# An error's class is looked up first, then its base classes, in the order of inheritance.
MEANING: dict[type[Exception], tuple[type[TransportError], str]] = {
    redis.RedisError: (TransportUnavailable, _REFUSED),
    redis.ConnectionError: (TransportUnavailable, _NETWORK),
    redis.TimeoutError: (TransportUnavailable, "Redis did not answer in time"),
    redis.MaxConnectionsError: (TransportUnavailable, "all REDIS_POOL_SIZE connections are in use"),
    redis.AuthenticationError: (TransportUnavailable, _AUTH),
    redis.AuthorizationError: (TransportUnavailable, _AUTH),
    redis.AuthenticationWrongNumberOfArgsError: (TransportUnavailable, _AUTH),
    redis.ExternalAuthProviderError: (TransportUnavailable, _AUTH),
    redis.NoPermissionError: (TransportUnavailable, _ACL),
    redis.BusyLoadingError: (TransportUnavailable, "Redis is loading its data"),
    redis.InvalidResponse: (TransportUnavailable, _PROTOCOL),
    redis.ResponseError: (TransportUnavailable, _REFUSED),
    redis.OutOfMemoryError: (Unwritable, _FULL),
    redis.ReadOnlyError: (TransportUnavailable, "Redis is a read-only replica: name the primary"),
    redis.NoScriptError: (TransportUnavailable, _REFUSED),
    redis.ExecAbortError: (TransportUnavailable, _REFUSED),
    redis.ModuleError: (TransportUnavailable, _REFUSED),
    redis.NoSuchFieldsetError: (TransportUnavailable, _REFUSED),
    redis.WatchError: (TransportUnavailable, _REFUSED),
    redis.PubSubError: (TransportUnavailable, _REFUSED),
    redis.LockError: (TransportUnavailable, _REFUSED),
    redis.LockNotOwnedError: (TransportUnavailable, _REFUSED),
    redis.ClusterError: (TransportUnavailable, _CLUSTER),
    redis.ClusterDownError: (TransportUnavailable, _CLUSTER),
    redis.MasterDownError: (TransportUnavailable, "the primary of this Redis replica is down"),
    redis.TryAgainError: (TransportUnavailable, _MOVING),
    redis.AskError: (TransportUnavailable, _MOVING),
    redis.MovedError: (TransportUnavailable, _MOVING),
    redis.ClusterCrossSlotError: (TransportUnavailable, _CLUSTER),
    redis.RedisClusterException: (TransportUnavailable, _CLUSTER),
    redis.SlotNotCoveredError: (TransportUnavailable, _CLUSTER),
    redis.CrossSlotTransactionError: (TransportUnavailable, _CLUSTER),
    redis.InvalidPipelineStack: (TransportUnavailable, _PROTOCOL),
    redis.ChildDeadlockedError: (TransportUnavailable, "a connection was used across a fork"),
    redis.DataError: (ConfigurationError, "a value can't be sent to Redis"),
    redis.IncorrectPolicyType: (ConfigurationError, "redis-py was given an unknown policy"),
    OSError: (TransportUnavailable, _NETWORK),
    TimeoutError: (TransportUnavailable, "Redis did not answer in time"),
}

# Error replies for which redis-py has no class, by their first word.
_CODES: dict[str, tuple[type[TransportError], str]] = {
    "TOPICMISSING": (TopicMissing, "the log was deleted under us"),
    "NOGROUP": (TopicMissing, "the log was deleted under us"),
    "WRONGTYPE": (TransportUnavailable, _NOT_OURS),
    "MISCONF": (TransportUnavailable, "Redis can't write to its disk"),
    "NOREPLICAS": (TransportUnavailable, "too few replicas are in step (min-replicas-to-write)"),
    "BUSY": (TransportUnavailable, "Redis is busy with somebody's script"),
    "UNKILLABLE": (TransportUnavailable, "Redis is busy with somebody's script"),
    "UNBLOCKED": (TransportUnavailable, "the server ended the wait, as when it became a replica"),
}


# Error replies that begin with ERR, by words in them.
_TEXTS: dict[str, tuple[type[TransportError], str]] = {
    "SELECT is not allowed": (ConfigurationError, _NO_DATABASE),
    "DB index is out of range": (ConfigurationError, _NO_DATABASE),
    "exhausted the last possible ID": (TransportUnavailable, _EXHAUSTED),
    "equal or smaller than the target stream top item": (TransportUnavailable, _EXHAUSTED),
    "ACL failure in script": (TransportUnavailable, _ACL),
    "max number of clients reached": (TransportUnavailable, _CROWDED),  # for redis-py, no reply
}


# Errors with which a server refuses everybody's writes for a time. They may stand inside the error
# of a script that met them on its way, as READONLY does.
_PASSING = re.compile(
    r"\b(READONLY|OOM|LOADING|NOREPLICAS|MISCONF|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|UNKILLABLE)\b"
)
_WRONG_SERVER = re.compile(r"^(UNBLOCKED|NOREPLICAS|MASTERDOWN|LOADING)\b|\bREADONLY\b")


def translate(error: BaseException) -> TransportError:
    """Return the transport's error for ``error``, with ``error`` as its cause.

    A ``TransportError`` is returned unchanged.
    """
    if isinstance(error, TransportError):
        return error
    meaning, remedy = _meaning(error)
    ended = error.__cause__ or error  # TLS 1.3 refuses our certificate after the handshake
    remedy = certificate_refusal(ended, authorities=_AUTHORITIES, own=_OWN) or remedy
    translated = meaning(f"{remedy} ({type(error).__name__}: {error})")
    translated.__cause__ = error
    return translated


def is_refusal(reply: object) -> bool:
    """Return whether a reply is an error that says that the command was not executed."""
    return isinstance(
        reply, (redis.ResponseError, redis.BusyLoadingError, redis.AuthenticationError)
    )


def is_of_one_key(reply: object) -> bool:
    """Return whether a reply says that a key holds something else: other keys are as they were."""
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("WRONGTYPE")


def is_wrong_server(error: Exception) -> bool:
    """Return whether an error reply says that this server can't take writes now.

    The server is or became a replica, or loads data, or has lost its replicas. (A primary that was
    cut off keeps its sessions, and refuses writes if ``min-replicas-to-write`` is set.) After a
    failover another server takes the writes.
    """
    if isinstance(error, redis.ReadOnlyError | redis.MasterDownError | redis.BusyLoadingError):
        return True
    return isinstance(error, redis.ResponseError) and _WRONG_SERVER.search(str(error)) is not None


def is_transient(error: TransportError) -> bool:
    """Return whether an error may pass by itself.

    The server is away, or refuses everybody's writes for now.
    """
    cause = error.__cause__
    if isinstance(
        cause,
        redis.ReadOnlyError
        | redis.OutOfMemoryError
        | redis.MasterDownError
        | redis.ClusterDownError
        | redis.TryAgainError,
    ):
        return True
    if isinstance(cause, redis.ResponseError):
        return _PASSING.search(str(cause)) is not None
    return isinstance(error, TransportUnavailable | AppendUnknown)


def is_function_missing(reply: object) -> bool:
    """Return whether a reply says that our library is not loaded, so nothing was executed.

    True also for a server that has no functions at all: loading them then raises an error with the
    remedy.
    """
    return isinstance(reply, redis.ResponseError) and (
        "Function not found" in str(reply) or "unknown command" in str(reply)
    )


def _meaning(error: BaseException) -> tuple[type[TransportError], str]:
    text = str(error)
    if type(error) is redis.ResponseError:
        meaning = _CODES.get(text.split(" ", 1)[0])
        if meaning:
            return meaning
    if type(error) in (redis.ResponseError, redis.ConnectionError):
        for words, meaning in _TEXTS.items():
            if words in text:
                return meaning
    for cls in type(error).__mro__:
        if cls in MEANING:
            return MEANING[cls]
    return TransportUnavailable, "unexpected failure"
