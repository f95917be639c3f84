"""All errors that the client raises, each with its remedy.

Catch an error by its class or by a class above it:

    CrossfadeError
    +-- UnreachableError          no connection
    +-- NoAnswerError             a connection, but no answer
    +-- UnexpectedAnswerError     an answer that is not Crossfade's
    +-- NotSentError              left out of a batch after an earlier failure
    +-- ProblemError              an error answer (RFC 9457)
    |   +-- InvalidRequestError   400, 405, 411, 414, 415, 421, 422, 431
    |   |   +-- TooLargeError     413
    |   |   +-- KeyConflictError  422, the key was used for another body
    |   +-- UnauthenticatedError  401
    |   +-- ForbiddenError        403
    |   +-- NotFoundError         404
    |   +-- ConflictError         409
    |   +-- UnavailableError      408, 425, 429, 502 to 504, 520 to 524
    |   |   +-- OutcomeUnknownError
    |   +-- ServiceError          500 and other 5xx
    +-- WaitTimeoutError          not persisted in time
    +-- DeadLetteredError         a dead letter, not persisted
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from crossfade_client.models import Message

__all__ = [
    "ConflictError",
    "CrossfadeError",
    "DeadLetteredError",
    "FieldError",
    "ForbiddenError",
    "InvalidRequestError",
    "KeyConflictError",
    "NoAnswerError",
    "NotFoundError",
    "NotSentError",
    "OutcomeUnknownError",
    "ProblemError",
    "ServiceError",
    "TooLargeError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "WaitTimeoutError",
    "problem_class",
]


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one field, in the service's words."""

    field: str
    """The field's path, such as ``recipientIds[3]``."""
    message: str
    remedy: str


class CrossfadeError(Exception):
    """Base class of the client's errors. ``remedy`` says what to do.

    ``attempts`` is the number of requests that were made. ``maybe_accepted`` says whether the
    service may have accepted the message or receipt although this error was raised. Then send the
    same ``NewMessage`` again: its key makes sure that it is stored once.
    """

    remedy: str = ""
    attempts: int = 0
    maybe_accepted: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make this error again, in another process or as a copy.

        Python would call the class with the error's text, which is not what most of these classes
        take. A pool of processes that can't read an error waits for it for ever.
        """
        cause = self.__cause__ if isinstance(self.__cause__, CrossfadeError) else None
        return _again, (type(self), self.args, self.__dict__, cause)


def _again(
    kind: type[CrossfadeError],
    args: tuple[Any, ...],
    attributes: dict[str, Any],
    cause: CrossfadeError | None,
) -> CrossfadeError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    error.__cause__ = cause
    return error


class UnreachableError(CrossfadeError):
    """The client could not connect to the service. Nothing was sent.

    Remedy: check the base URL, that the service runs, and for https its certificate.
    """

    remedy = "Check the base URL, that the service runs, and for https its certificate."


class NoAnswerError(CrossfadeError):
    """The request was sent, at least in part, and no complete answer came in time.

    Remedy: send the same message again, with the same key; allow more time with ``timeout``.
    """

    remedy = "Send the same message again, with the same key; allow more time with `timeout`."


class UnexpectedAnswerError(CrossfadeError):
    """The answer is not from Crossfade's API. Something else answered.

    Remedy: check the base URL, and proxies or login pages in between.
    """

    remedy = "Check the base URL, and proxies or login pages in between."

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(f"HTTP {status}: {detail}")
        self.status = status
        self.detail = detail


class NotSentError(CrossfadeError):
    """The message was not sent, because messages before it in the batch could not be sent.

    Remedy: fix the error in ``__cause__``, and send these messages again.
    """

    remedy = "Fix the error in `__cause__`, and send these messages again."


class ProblemError(CrossfadeError):
    """The service answered with an error. The attributes are those of RFC 9457's problem document.

    An error answer without such a document, for example a proxy's, has the type ``about:blank``.
    """

    usual_remedy: ClassVar[str] = "See the page that `type` points to."

    def __init__(
        self,
        *,
        status: int,
        title: str,
        detail: str,
        type: str = "about:blank",  # noqa: A002 - the member's name in RFC 9457
        fields: Sequence[FieldError] = (),
        correlation_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(_line(status, title, detail, fields))
        self.status = status
        self.type = type
        """A URI reference to the service's page that explains this type."""
        self.title = title
        self.detail = detail
        self.fields = tuple(fields)
        """The faulty fields, each with its fault."""
        self.correlation_id = correlation_id
        """The id of this request in the service's logs."""
        self.retry_after = retry_after
        """Seconds to wait before a retry, from ``Retry-After``."""
        self.remedy = " ".join(field.remedy for field in self.fields) or self.usual_remedy

    @property
    def field(self) -> str | None:
        """The path of the first faulty field, if the problem names one."""
        return self.fields[0].field if self.fields else None


class InvalidRequestError(ProblemError):
    """The service can't accept this request, and a retry does not help.

    Remedy: change what ``fields`` or ``detail`` name.
    """

    usual_remedy = "Change what `detail` names."


class TooLargeError(InvalidRequestError):
    """The message is larger than the service, or a proxy in front, allows.

    Remedy: keep large contents elsewhere, and send a reference.
    """

    usual_remedy = "Keep large contents elsewhere, and send a reference."


class KeyConflictError(InvalidRequestError):
    """The key was used before, in this conversation and by this sender, for another body.

    Nothing was enqueued. Remedy: give a new message a ``client_message_id`` of its own.
    """

    usual_remedy = "Give a new message a client_message_id of its own."


class UnauthenticatedError(ProblemError):
    """The service needs an API key, and the request had none or an unknown one.

    Remedy: give ``api_key``, or set CROSSFADE_API_KEY, to a key made by ``crossfade keys new``.
    """

    usual_remedy = "Give api_key, or set CROSSFADE_API_KEY, to a key made by 'crossfade keys new'."


class ForbiddenError(ProblemError):
    """The API key may not do this.

    Remedy: use a key that has the scope, or the prefix, that ``detail`` names.
    """

    usual_remedy = "Use a key that has the scope, or the prefix, that `detail` names."


class NotFoundError(ProblemError):
    """There is no such message.

    Remedy: check the id, and the base URL.
    """

    usual_remedy = "Check the id, and the base URL."


class ConflictError(ProblemError):
    """The state of the message does not allow this, such as a receipt for a dead letter.

    Remedy: ``detail`` says what would change it.
    """

    usual_remedy = "`detail` says what would change its state."


class UnavailableError(ProblemError):
    """The service can't take the request now, and retries did not help until the deadline.

    Remedy: send the same message again later, with the same key.
    """

    usual_remedy = "Send the same message again later, with the same key."


class OutcomeUnknownError(UnavailableError):
    """The service can't tell whether it accepted the message.

    Remedy: send the same message again, with the same key. A new key could double it.
    """

    usual_remedy = "Send the same message again, with the same key. A new key could double it."


class ServiceError(ProblemError):
    """The service had an internal error.

    Remedy: report ``correlation_id`` to its operator. You may send the message again, same key.
    """

    usual_remedy = "Report the correlation id to the operator. Send again with the same key."


class WaitTimeoutError(CrossfadeError, TimeoutError):
    """The message was not persisted within the time given to ``wait``.

    ``state`` is the last known state: ``pending``, or ``None`` if the service did not find the
    message or did not answer (then ``__cause__`` says why). Remedy: an acknowledged message is safe
    in the log, so wait again; if it stays pending, look at the workers (``crossfade status``).
    """

    remedy = "Wait again. If it stays pending, look at the workers ('crossfade status')."

    def __init__(self, message_id: str, state: str | None, seconds: float) -> None:
        seen = f"it is {state}" if state else "its state is not known"
        super().__init__(f"message {message_id} was not persisted within {seconds:g} s; {seen}")
        self.message_id = message_id
        self.state = state


class DeadLetteredError(CrossfadeError):
    """The message could not be persisted, and is a dead letter. ``message`` is its present view.

    Remedy: an operator fixes the cause and redrives it (``crossfade dlq redrive``).
    """

    remedy = "Fix the cause, then redrive it ('crossfade dlq redrive')."

    def __init__(self, message: Message) -> None:
        letter = message.dead_letter
        why = f" ({letter.reason}: {letter.error})" if letter else ""
        super().__init__(f"message {message.message_id} is a dead letter{why}")
        self.message = message


_BY_NAME: dict[str, type[ProblemError]] = {
    "idempotency-conflict": KeyConflictError,
    "outcome-unknown": OutcomeUnknownError,
}
_BY_STATUS: dict[int, type[ProblemError]] = {
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    408: UnavailableError,
    409: ConflictError,
    413: TooLargeError,
    425: UnavailableError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
    **dict.fromkeys(range(520, 525), UnavailableError),  # Cloudflare's
}
_SERVERS = 500


def problem_class(name: str, status: int) -> type[ProblemError]:
    """Return the error class for a problem type's name (the last part of its URI) and a status."""
    usual = ServiceError if status >= _SERVERS else InvalidRequestError
    return _BY_NAME.get(name) or _BY_STATUS.get(status, usual)


def _line(status: int, title: str, detail: str, fields: Sequence[FieldError]) -> str:
    text = f"HTTP {status}: {title}"
    if fields:
        return f"{text}: " + "; ".join(f"{field.field} {field.message}" for field in fields)
    return f"{text}: {detail}" if detail else text
