"""``crossfade produce``: sends one message, as an application does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from compose.commands.options.operator_action import caller
from compose.output import err, fail, out, run
from compose.service_address import ServiceAddress, connected, explain, service, with_remedy
from compose.terminal import styled
from crossfade import (
    Ack,
    CrossfadeError,
    DeadLetteredError,
    Message,
    NewMessage,
    Retry,
    WaitTimeoutError,
)

__all__ = ["produce"]

_LATE = 4
_STDIN = "-"


class _Sent(NamedTuple):
    message: NewMessage
    ack: Ack
    stored: Message | None


def produce(
    body: Annotated[
        str | None,
        typer.Argument(metavar="BODY", help="The content; by default standard input."),
    ] = None,
    *,
    conversation: Annotated[
        str, typer.Option(metavar="ID", help="The conversation that it belongs to.")
    ],
    file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Read the content from a file; - is stdin.")
    ] = None,
    sender: Annotated[
        str | None, typer.Option(metavar="ID", help="The sender; by default user@host.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The clientMessageId: sent twice with one, a message is stored once."
        ),
    ] = None,
    recipient: Annotated[
        list[str] | None, typer.Option("--to", metavar="ID", help="A recipient; may be repeated.")
    ] = None,
    content_type: Annotated[str, typer.Option(help="The contentType of the message.")] = "text",
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="A header of the request; may be repeated."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return once it is persisted.")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Time to try, and with --wait to wait after that."
        ),
    ] = 30.0,
    url: Annotated[
        str | None,
        typer.Option(help="The API; by default CROSSFADE_URL, else the service on this machine."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send one message.

    It is retried while that may help; with --wait, the command waits until it is persisted.
    CROSSFADE_API_KEY is sent if it is set. Exit status 4: accepted, but not persisted in time.
    """
    content = _content(body, file)
    more = {} if key is None else {"client_message_id": key}
    who = caller() if sender is None else sender
    message = NewMessage(conversation, who, content, content_type, tuple(recipient or ()), **more)
    headers = _headers(header or [])
    to = service(url)

    async def main() -> _Sent:
        async with connected(to, Retry(deadline=timeout), headers=headers) as client:
            ack = await client.send(message)
            if not wait:
                return _Sent(message, ack, None)
            if not as_json:
                _tell_accepted(ack)
            return _Sent(message, ack, await client.wait(ack.message_id, timeout=timeout))

    try:
        sent = run(main)
    except WaitTimeoutError as error:
        fail(with_remedy(error), status=_LATE)
    except DeadLetteredError as error:
        fail(with_remedy(error))
    except CrossfadeError as error:
        fail(*explain(error, to), *_again(error, message))
    except ValueError as error:
        fail(str(error), status=2)
    _show(sent, to, as_json=as_json)


def _content(body: str | None, file: Path | None) -> str:
    """Return the message's content: of BODY, a file or standard input."""
    if body is not None and file is not None:
        raise typer.BadParameter("give BODY or --file, not both")
    if body is not None:
        return body
    if file is not None and str(file) != _STDIN:
        try:
            return file.read_bytes().decode()
        except OSError as error:
            fail(f"{file} can't be read: {error.strerror}")
        except UnicodeDecodeError:
            fail(f"{file} is not UTF-8, and a message is text: encode it, as base64 for example")
    if file is None and sys.stdin.isatty():
        raise typer.BadParameter("give BODY, --file PATH, or something on standard input")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError:
        fail("standard input is not UTF-8, and a message is text: encode it, as base64 for example")


def _headers(given: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        good = text.isascii() and text.isprintable() and name.strip() and " " not in name.strip()
        if not (colon and good):
            raise typer.BadParameter(f"--header {text!r} is not NAME:VALUE in printable ASCII")
        headers[name.strip()] = value.strip()
    return headers


def _again(error: CrossfadeError, message: NewMessage) -> list[str]:
    """Return how to repeat a message whose outcome is unknown: with the same key and sender."""
    if not error.maybe_accepted:
        return []
    again = f"--key {message.client_message_id} --sender {message.sender_id}"
    return [f"it may have been accepted: repeat it with {again}, and it is stored once"]


def _tell_accepted(ack: Ack) -> None:
    before = " before" if ack.idempotent_hit else ""
    err.print(styled((f"accepted{before}", "cyan"), f" {ack.accepted_at}; waiting for its row"))


def _show(sent: _Sent, to: ServiceAddress, *, as_json: bool) -> None:
    message, ack, stored = sent
    state = stored.state if stored else ack.state
    if as_json:
        out.json(
            {
                "messageId": ack.message_id,
                "state": state,
                "acceptedAt": ack.accepted_at,
                "persistedAt": stored.persisted_at if stored else None,
                "idempotentHit": ack.idempotent_hit,
                "correlationId": ack.correlation_id,
                "conversationId": message.conversation_id,
                "senderId": message.sender_id,
                "clientMessageId": message.client_message_id,
                "positions": [
                    {"transport": p.transport, "partition": p.partition, "offset": p.offset}
                    for p in (stored.positions if stored else ())
                ],
            }
        )
        return
    out.print(ack.message_id)
    if stored is None:
        what = "accepted before" if ack.idempotent_hit else "accepted"
        err.print(styled((what, "cyan"), f" {ack.accepted_at} by {to.url} ({state})"))
        return
    where = ", ".join(
        f"{place.transport} {place.partition}:{place.offset}" for place in stored.positions
    )
    at = f" {stored.persisted_at}" + (f"; {where}" if where else "")
    err.print(styled(("persisted", "green"), at))
