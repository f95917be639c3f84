"""The head of a document: the API's title, servers and tags."""

from __future__ import annotations

from typing import Any

__all__ = ["CONSOLE", "PUBLIC", "VERSION", "document_head"]

VERSION = "3.0.3"
"""OpenAPI's version. All code generators read 3.0; they call their support of 3.1 a beta."""

PUBLIC = {
    "messages": "Send messages, read them, and read conversations in order.",
    "receipts": "Record that a user got or saw a message.",
    "dead letters": "Messages that could not be persisted: list, read, redrive, discard.",
    "jobs": "Long jobs of any process: redrives, backfills, repairs.",
    "health": "For load balancers and orchestrators. These routes need no key.",
    "problems": "The types of errors (RFC 9457), and what to do about each.",
}
"""The tags of the public document with their descriptions, in the document's order."""

CONSOLE = {
    "console": "What the console at `/console` reads, and its session.",
    "migration": "The migration between two logs: where it stands, its gates and its steps.",
}
"""The tags of the console's document."""

_INFO = {
    "version": "0.1.0",
    "license": {
        "name": "Apache-2.0",
        "url": "https://www.apache.org/licenses/LICENSE-2.0",
    },
    "contact": {"name": "The operator of this service"},
}
_PUBLIC_TEXT = (
    "Durable message delivery over a log that can be changed under live traffic. A message is "
    "acknowledged when it is in the log, and the same key gets the same answer for ever, so every "
    "POST may be repeated. Errors are problem documents (RFC 9457)."
)
_CONSOLE_TEXT = (
    "The routes that the console at `/console` is made of. They change with the console: programs "
    "are better served by the public document, `/openapi.json`, and by the `crossfade` command."
)


def document_head(*, console: bool) -> dict[str, Any]:
    """Return the members of a document that are not paths or components."""
    title, text = ("Crossfade console", _CONSOLE_TEXT) if console else ("Crossfade", _PUBLIC_TEXT)
    tags = CONSOLE if console else PUBLIC
    return {
        "openapi": VERSION,
        "info": {"title": title, "description": text, **_INFO},
        # The URL is relative to the document's: the service does not know its proxies' names.
        "servers": [{"url": "/", "description": "Where this document was read."}],
        "tags": [{"name": name, "description": words} for name, words in tags.items()],
        "externalDocs": {
            "url": "/docs",
            "description": "The same document as a page that can send requests.",
        },
    }
