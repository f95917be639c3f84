"""The request struct of a message, decoded and checked at C speed.

A body that passes costs about a microsecond. One that may not goes to
``ingress.schema.validation_errors``, which takes its time to name each fault exactly.
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
"""The longest idempotency key. PostgreSQL's B-tree takes no entry of more than 2,704 bytes: a
longer key would be accepted here and then refused there, for ever."""

_COLON = ord(":")
_BACKSLASH = ord("\\")

# PostgreSQL's text can't hold U+0000, so no text that has one is taken (see `suspicious`).
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
        """Return the message that was sent, with the identity and the times that it was given."""
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

    A decoder keeps the last of two equal names in silence. More colons in the text than this number
    is how the other shows; a colon in a value is a false alarm, which
    ``ingress.schema.validation_errors.explain`` tells from a real one.
    """
    unset: int = _optional(request).count(UNSET)
    return _FIELDS - unset


class RequestLimits(msgspec.Struct, frozen=True):
    """The limits that are settings (those of ids are fixed)."""

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

    Those are: the two limits that are settings, no U+0000 (which JSON has to escape), and no name
    twice in the object (see ``names_given``).
    """
    return (
        data.count(_COLON) != names_given(request)
        # Most texts have no backslash at all, and to look for one byte is ten times as fast.
        or (_BACKSLASH in data and b"\\u0000" in data)
        or exceeds(request, limits)
    )


def exceeds(request: MessageRequest, limits: RequestLimits) -> bool:
    """Return whether a request is over a limit that is a setting."""
    content, recipients = request.content, request.recipient_ids
    most = limits.content_bytes
    return (
        # A character is at most 4 bytes of UTF-8: short text needs no encoding to be sure.
        (len(content) * 4 > most and len(content.encode()) > most)
        or (recipients is not UNSET and len(recipients) > limits.recipients)
    )
