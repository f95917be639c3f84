"""``crossfade keys``: makes API keys, and lists the configured ones."""

from __future__ import annotations

import os
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from compose.commands.options.common import Json, Wide
from compose.grid import Grid
from compose.output import err, fail, out, settings_or_exit
from compose.terminal import paragraph
from ingress.web.key_entries import NAME, ApiKey, Scope, entry_of, parse_entries
from transport.errors import ConfigurationError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make an API key, and list those that are configured.")

_SECRET_BYTES = 32
# Columns, and how early each is dropped on a narrow terminal (0: never).
_COLUMNS = {"name": 0, "scopes": 0, "senders": 2, "conversations": 3, "sha256": 1, "from": 4}


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="A name for its user; logs show it.")],
    scope: Annotated[list[Scope], typer.Option(help="What the key may do; may be repeated.")] = [  # noqa: B006 - typer copies it
        Scope.PRODUCE,
        Scope.READ,
    ],
    sender_prefix: Annotated[
        str,
        typer.Option(help="Only for senders, and users in receipts, whose id begins with this."),
    ] = "",
    conversation_prefix: Annotated[
        str, typer.Option(help="Only for conversations whose id begins with this.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option(help="Add the entry to this file (API_KEYS_FILE) at once.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a key.

    The key is shown this once; only its SHA-256 is stored.
    """
    secret = f"cf_{secrets.token_urlsafe(_SECRET_BYTES)}"
    if not NAME.fullmatch(name):
        fail(f"{name!r} can't be a key's name; use 1 to 64 letters, digits, '.', '_' or '-'")
    key = ApiKey(name, frozenset(scope), sender_prefix, conversation_prefix)
    entry = entry_of(key, sha256(secret.encode()).hexdigest())
    try:
        parse_entries(entry, "The key")
    except ConfigurationError as error:
        fail(str(error))
    if file is not None:
        _append(file, entry)
    if as_json:
        out.json({"key": secret, "entry": entry, "file": str(file) if file else None})
        return
    if file is not None:
        err.print(f"Added to {file}. The key, shown this once:")
    else:
        err.print("Add this entry to API_KEYS or to a line of API_KEYS_FILE:")
        err.print(paragraph(f"  {entry}"))
        err.print("The key, shown this once:")
    out.print(secret)


@app.command(name="list")
def list_keys(*, as_json: Json = False, _wide: Wide = False) -> None:
    """List the keys of API_KEYS and API_KEYS_FILE.

    The keys themselves are not known; the list shows the beginning of each SHA-256.
    """
    settings = settings_or_exit().ingress
    texts: list[tuple[str, str]] = []
    if settings.api_keys:
        texts.append((settings.api_keys.get_secret_value(), "API_KEYS"))
    if settings.api_keys_file:
        texts.append((settings.api_keys_file.read_text("utf-8"), str(settings.api_keys_file)))
    keys = [
        (digest, key, source)
        for text, source in texts
        for digest, key in parse_entries(text, source).items()
    ]
    if as_json:
        out.json([_data(*key) for key in keys])
        return
    if not keys:
        err.print("API_KEYS and API_KEYS_FILE name no keys.")
        return
    table = Grid()
    for heading, drop in _COLUMNS.items():
        table.add_column(heading, drop=drop)
    for digest, key, source in keys:
        table.add_row(
            key.name,
            "+".join(sorted(key.scopes)),
            repr(key.sender_prefix) if key.sender_prefix else "any",
            repr(key.conversation_prefix) if key.conversation_prefix else "any",
            f"{digest[:12]}...",
            source,
        )
    out.print(table)


def _data(digest: str, key: ApiKey, source: str) -> dict[str, object]:
    return {
        "name": key.name,
        "scopes": sorted(key.scopes),
        "senderPrefix": key.sender_prefix,
        "conversationPrefix": key.conversation_prefix,
        "sha256": digest,
        "source": source,
    }


def _append(path: Path, entry: str) -> None:
    before = path.read_bytes() if path.exists() else b""
    # Only the owner may read the file, from its first byte on: digests are not secret, but names
    # may be.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        if before and not before.endswith(b"\n"):
            file.write(b"\n")
        file.write(f"{entry}\n".encode())
