"""Every field of an event has its column, and every column that an insert has to fill is filled."""

from __future__ import annotations

import msgspec
import pytest

from ingress.routes.models import MessageSummary, MessageView
from ingress.schema.requests import MessageRequest
from persistence.store.columns import (
    MESSAGE,
    RECEIPT,
    BatchColumns,
    columns,
    insert_column,
)
from persistence.tables import columns as tables
from persistence.tables.columns import or_null
from persistence.tables.models import MessageReceipt, MessageRow
from tests.persistence.samples import message, placed
from transport.message.envelope import Message, Receipt

BY_DATABASE = {"created_at", "seq"}
WITH_THE_BATCH = {"transport"}
NOT_OF_THE_SENDER = {"message_id", "idempotency_key", "accepted_at", "correlation_id"}
COMPUTED = {"v", "payload_fingerprint"}
PAYLOAD = {"payload_key", "payload_bytes", "payload_fingerprint", "v"}
NOT_SHOWN = {"idempotency_key"}


@pytest.mark.parametrize(
    ("event", "columns"), [(Message, tables.MESSAGE), (Receipt, tables.RECEIPT)]
)
def test_each_field_of_an_event_has_one_column(event, columns):
    fields = [column.field for column in columns]
    assert sorted(fields) == sorted(set(event.__struct_fields__) - COMPUTED)


@pytest.mark.parametrize(("model", "columns"), [(MessageRow, MESSAGE), (MessageReceipt, RECEIPT)])
def test_the_insert_fills_each_column_that_the_database_does_not(model, columns):
    filled = {column.name for column in columns}
    table = {column.name for column in model.__table__.columns}
    assert table - filled - WITH_THE_BATCH == BY_DATABASE & table
    assert filled <= table


def test_what_a_request_says_is_kept_compared_and_shown():
    kept = {column.field for column in tables.MESSAGE if column.sent}
    assert kept == set(Message.__struct_fields__) - NOT_OF_THE_SENDER - PAYLOAD
    assert kept >= set(MessageRequest.__struct_fields__)  # accepted one release after it is kept
    shown = set(Message.__struct_fields__) - NOT_SHOWN - PAYLOAD
    assert shown <= set(MessageSummary.__struct_fields__)
    assert shown <= set(MessageView.__struct_fields__)


def test_each_field_that_a_request_says_reaches_the_message():
    texts = {field.name: field.name for field in msgspec.structs.fields(MessageRequest)}
    request = MessageRequest(**(texts | {"recipient_ids": ("recipient",)}))
    message = request.message(texts["client_message_id"])
    for name in request.__struct_fields__:
        assert getattr(message, name) == getattr(request, name)
        if name not in {"conversation_id", "sender_id", "client_message_id"}:  # of the key
            other = ("other",) if name == "recipient_ids" else "other"
            changed = msgspec.structs.replace(message, **{name: other})
            assert changed.fingerprint() != message.fingerprint()


@pytest.mark.parametrize("type_", ["text", "uuid", "smallint", "jsonb"])
def test_a_field_of_any_type_may_be_left_unset(type_):
    """One line of ``MESSAGE`` is enough for a new field."""
    column = insert_column(tables.Column("payload_bytes", "added", type_, or_null))
    events = [message("a"), message("b", payload_bytes=3)]
    sent = BatchColumns((column,), [0, 1], {"added": column.of([], events)})
    assert sent.parameters("|") == [[None, 3]]


def test_of_a_column_in_which_each_record_has_the_usual_value_none_is_sent():
    records = [placed(message("a")), placed(message("b"))]
    sent, _ = columns(records)
    empty = {name for name, values in sent.values.items() if not values}
    optional = {column.name for column in tables.MESSAGE if column.write is or_null}
    assert empty == optional | {"payload_key", "attempts", "trace_id"}
    unusual = msgspec.structs.replace(records[1], attempts=2, trace_id="f" * 32)
    sent, _ = columns([records[0], unusual])
    assert sent.values["attempts"] == [1, 2]
    assert sent.values["trace_id"] == [None, "f" * 32]
