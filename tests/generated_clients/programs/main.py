"""A program on the client that was generated for Python."""

import json
import sys
import time
from uuid import uuid4

import crossfade_client as client

URL, KEY, CONVERSATION = sys.argv[1:]
TOO_LONG = "\u00e9" * 40_000  # in bytes, which no client counts


def message(key, content="Hello"):
    return client.MessageRequest(
        conversation_id=CONVERSATION, sender_id="sender", content=content, client_message_id=key
    )


def refused(call, *arguments):
    try:
        call(*arguments)
    except client.ApiException as error:
        return error.status, client.Problem.from_json(error.body)
    raise AssertionError("it was not refused")


def item(result):
    one = result.actual_instance
    told = {"kind": one.kind, "status": one.status}
    return told | ({"field": one.errors[0].var_field} if one.kind == "problem" else {})


with client.ApiClient(client.Configuration(host=URL, access_token=KEY)) as api:
    messages, receipts = client.MessagesApi(api), client.ReceiptsApi(api)
    letters = client.DeadLettersApi(api)

    first = messages.post_message(message("1"))
    deadline = time.monotonic() + 60
    while messages.get_message(first.message_id).state != "persisted":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    repeat = messages.post_message(message("1"))
    receipt = receipts.post_receipt(
        first.message_id, client.ReceiptRequest(user_id="reader", state="read")
    )
    while not (listed := receipts.list_receipts(first.message_id).items):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    batch = messages.post_messages([message("2"), message("x", TOO_LONG), message("3")])
    messages.post_messages([message("4")])
    messages.post_messages([message("5")])
    _, conflict = refused(messages.post_message, message("1", "other"))
    status, invalid = refused(messages.post_message, message("6", TOO_LONG))
    missing_status, missing = refused(messages.get_message, str(uuid4()))

    def pages():
        after, read = None, []
        while True:
            page = messages.list_messages(CONVERSATION, after=after, limit=2)
            read.append([message.client_message_id for message in page.items])
            if not page.has_more:
                return read
            after = page.next

    read = pages()
    while sum(map(len, read)) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        read = pages()
    number = letters.list_dead_letters().items[0].id
    letter = letters.get_dead_letter(number)
    preview = letters.redrive_dead_letters(client.RedriveRequest(ids=[number], dry_run=True))

with client.ApiClient(client.Configuration(host=URL)) as api:
    keyless, _ = refused(client.MessagesApi(api).post_message, message("7"))

print(
    json.dumps(
        {
            "first": {
                "id": str(first.message_id),
                "state": first.state,
                "hit": first.idempotent_hit,
                "at": first.accepted_at.isoformat(),
            },
            "repeat": {
                "id": str(repeat.message_id),
                "hit": repeat.idempotent_hit,
                "at": repeat.accepted_at.isoformat(),
            },
            "receipt": {"state": receipt.state, "hit": receipt.idempotent_hit},
            "receipts": [{"user": receipt.user_id, "state": receipt.state} for receipt in listed],
            "batch": [item(result) for result in batch],
            "conflict": {
                "status": conflict.status,
                "type": conflict.type,
                "title": conflict.title,
                "detail": conflict.detail,
                "correlationId": conflict.correlation_id,
            },
            "invalid": {
                "status": status,
                "field": invalid.errors[0].var_field,
                "remedy": bool(invalid.errors[0].remedy),
            },
            "missing": {"status": missing_status, "type": missing.type},
            "pages": read,
            "letter": {"id": letter.id, "reason": letter.reason, "state": letter.state},
            "preview": preview.letters,
            "keyless": keyless,
        }
    )
)
