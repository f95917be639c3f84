"""The request body of a message: msgspec decodes it and checks it at C speed.

A valid body costs about a microsecond. A body that may be invalid goes to
``ingress.schema.validation_errors``, which is slower and names each fault.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from ingress.settings import IngressSettings
from transport.message.envelope import Message

__all__ = [
    "CONTENT_TYPE_LENGTH",
    "ID_LENGTH",
    "KEY_BYTES",
    "MessageRequest",
    "RequestLimits",
    "decode_message",
    "exceeds",
    "names_given",
    "suspicious",
]

ID_LENGTH = 256
"""The most characters an id may have."""
CONTENT_TYPE_LENGTH = 128
KEY_BYTES = 2_600
"""The longest idempotency key, in bytes. PostgreSQL's B-tree takes no entry of more than 2,704
bytes: a longer key would be accepted into the log, and PostgreSQL would refuse its row for ever."""

_COLON = ord(":")
_BACKSLASH = ord("\\")

# PostgreSQL's text can't hold U+0000, so a text with one is refused (see `suspicious`).
_NO_NUL = {"pattern": "^[^\\u0000]*$"}

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LENGTH, extra_json_schema=_NO_NUL)]


class MessageRequest(
    msgspec.Struct, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True
):
    """A message to deliver."""

    conversation_id: Annotated[Id, msgspec.Meta(description="Messages of one are kept in order.")]
    sender_id: Id
    content: Annotated[str, msgspec.Meta(extra_json_schema=_NO_NUL)]
    content_type: (
        Annotated[
            str,
            msgspec.Meta(min_length=1, max_length=CONTENT_TYPE_LENGTH, extra_json_schema=_NO_NUL),
        ]
        | UnsetType
    ) = UNSET
    client_message_id: Id | UnsetType = UNSET
    recipient_ids: tuple[Id, ...] | UnsetType = UNSET

    def message(
        self,
        client_message_id: str,
        message_id: str = "",
        key: str = "",
        accepted_at: str = "",
        correlation_id: str = "",
    ) -> Message:
        """Return the request's message, with the ids, the key and the time that it was given."""
        return Message(
            self.conversation_id,
            self.sender_id,
            client_message_id,
            self.content,
            "text" if self.content_type is UNSET else self.content_type,
            () if self.recipient_ids is UNSET else self.recipient_ids,
            message_id,
            key,
            accepted_at,
            correlation_id,
        )


_FIELDS = len(MessageRequest.__struct_fields__)
_optional = attrgetter(
    *(field.name for field in msgspec.structs.fields(MessageRequest) if not field.required)
)


def names_given(request: MessageRequest) -> int:
    """Return the number of fields that the JSON of ``request`` names.

    The decoder silently keeps the last of two equal names. If the text has more colons than this
    number, a name may stand twice. A colon in a value is a false alarm, which
    ``ingress.schema.validation_errors.explain`` recognises.
    """
    unset: int = _optional(request).count(UNSET)
    return _FIELDS - unset


class RequestLimits(msgspec.Struct, frozen=True):
    """The limits of a message that are settings. The limits of ids are fixed."""

    content_bytes: int
    recipients: int
    batch_items: int
    item_bytes: int = 1024 * 1024
    """The most bytes of one message's JSON, alone or in a batch."""

    @classmethod
    def of(cls, settings: IngressSettings) -> RequestLimits:
        """Return the limits that ``settings`` give."""
        return cls(
            content_bytes=settings.ingress_max_content_bytes,
            recipients=settings.ingress_max_recipients,
            batch_items=settings.ingress_max_batch_items,
            item_bytes=settings.ingress_max_body_bytes,
        )


decode_message = msgspec.json.Decoder(MessageRequest).decode


def suspicious(request: MessageRequest, data: bytes, limits: RequestLimits) -> bool:
    """Return whether a decoded request may break a rule that the decoder can't check.

    These rules are: the two limits that are settings, no U+0000 (which JSON has to escape), and no
    name twice in the object (see ``names_given``).
    """
    return (
        data.count(_COLON) != names_given(request)
        # Most texts have no backslash, and a search for one byte is ten times as fast.
        or (_BACKSLASH in data and b"\\u0000" in data)
        or exceeds(request, limits)
    )


def exceeds(request: MessageRequest, limits: RequestLimits) -> bool:
    """Return whether a request is over a limit that is a setting."""
    content, recipients = request.content, request.recipient_ids
    most = limits.content_bytes
    return (
        # A character is at most 4 bytes of UTF-8, so short text need not be encoded to be measured.
        (len(content) * 4 > most and len(content.encode()) > most)
        or (recipients is not UNSET and len(recipients) > limits.recipients)
    )
