"""Entries of ``API_KEYS`` and ``API_KEYS_FILE``: the scopes and the prefixes of each key.

An entry is ``name:scope+scope:sha256hex``, and optionally ``:sender=prefix`` and
``:conversation=prefix``. In a prefix, characters other than letters, digits and ``. _ ~ / @ + -``
are percent-encoded UTF-8 (RFC 3986, section 2.1), so that they can't be taken for a part of the
entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from urllib.parse import quote, unquote

import msgspec

from ingress.schema.problems import FORBIDDEN, Problem
from ingress.schema.requests import ID_LENGTH
from transport.errors import ConfigurationError

__all__ = ["NAME", "ApiKey", "Scope", "entry_of", "parse_entries"]

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""The pattern of a key's name."""
_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):([a-z+]+):([0-9a-f]{64})((?::[^:\s]*)*)")
_PREFIX = re.compile(r"(sender|conversation)=((?:[A-Za-z0-9._~/@+-]|%[0-9A-Fa-f]{2})+)")
_PLAIN = "/@+"  # not encoded, beside the characters that `quote` never encodes


class Scope(StrEnum):
    """A permission of a key."""

    PRODUCE = "produce"
    """Post messages and receipts."""
    READ = "read"
    """Read messages, conversations, receipts and dead letters; see how the service works."""
    ADMIN = "admin"
    """See how the service works, without messages; redrive and discard dead letters; change the
    migration's phase. Changes are recorded."""


class ApiKey(msgspec.Struct, frozen=True):
    """One configured key. ``name`` is for logs. An empty prefix allows every id."""

    name: str
    scopes: frozenset[Scope]
    sender_prefix: str = ""
    """The prefix of all senders, and of all users who give receipts."""
    conversation_prefix: str = ""

    @property
    def limited(self) -> bool:
        """Whether the key has a prefix, and so is for some senders or conversations only."""
        return bool(self.sender_prefix or self.conversation_prefix)

    def sees(self, sender: str | None, conversation: str | None) -> bool:
        """Return whether the key may read a message of this sender in this conversation.

        A key with a prefix may not read a message whose sender or conversation is unknown.
        """
        if not self.limited:
            return True
        return (
            sender is not None
            and conversation is not None
            and sender.startswith(self.sender_prefix)
            and conversation.startswith(self.conversation_prefix)
        )

    def answers_for(self, *, sender: str = "", conversation: str = "") -> None:
        """Refuse a key that may not act as ``sender`` in ``conversation``. Empty ids are skipped.

        Raises:
            Problem: An id lacks the key's prefix (403). The client sent both ids itself, so the
                answer tells it nothing new.
        """
        if sender and not sender.startswith(self.sender_prefix):
            raise self._refused("senders and users", self.sender_prefix)
        if conversation and not conversation.startswith(self.conversation_prefix):
            raise self._refused("conversations", self.conversation_prefix)

    def refuse_limited(self) -> None:
        """Refuse a key that is not for all senders and conversations.

        Raises:
            Problem: The key has a prefix (403).
        """
        if self.limited:
            raise Problem(
                FORBIDDEN,
                f"The key {self.name!r} is limited to a prefix, and this request concerns all "
                "messages: use a key without a prefix.",
            )

    def _refused(self, what: str, prefix: str) -> Problem:
        return Problem(
            FORBIDDEN,
            f"The key {self.name!r} is for {what} whose id begins with {prefix!r} only.",
        )


def entry_of(key: ApiKey, digest: str) -> str:
    """Return the entry of a key as text; ``digest`` is the key's SHA-256 in hex."""
    parts = [key.name, "+".join(sorted(key.scopes)), digest]
    for name, prefix in (("sender", key.sender_prefix), ("conversation", key.conversation_prefix)):
        if prefix:
            parts.append(f"{name}={quote(prefix, safe=_PLAIN)}")
    return ":".join(parts)


def parse_entries(text: str, source: str) -> dict[str, ApiKey]:
    """Return the keys in ``text`` by the SHA-256 of each.

    Args:
        text: Entries, separated by commas or line breaks; ``#`` begins a comment.
        source: The setting that ``text`` comes from, for errors.

    Raises:
        ConfigurationError: An entry is faulty, or two have the same SHA-256. The error names the
            entry by its number and does not repeat it: somebody may have pasted a key itself.
    """
    keys: dict[str, ApiKey] = {}
    lines = (line.partition("#")[0] for line in text.splitlines())
    entries = [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]
    for number, entry in enumerate(entries, start=1):
        where = f"{source}: entry {number}"
        match = _ENTRY.fullmatch(entry)
        try:
            scopes = frozenset(Scope(scope) for scope in match[2].split("+")) if match else None
        except ValueError:
            scopes = None
        if match is None or scopes is None:
            raise ConfigurationError(
                f"{where} is not name:scope+scope:sha256hex with scopes out of "
                f"{', '.join(Scope)} (the SHA-256 of the key, never the key itself), then "
                ":sender=prefix and :conversation=prefix if it is limited"
            )
        prefixes = dict(_prefixes(match[4], where))
        key = ApiKey(match[1], scopes, prefixes.get("sender", ""), prefixes.get("conversation", ""))
        if key.limited and Scope.ADMIN in scopes:
            raise ConfigurationError(
                f"{where} has a prefix and the scope admin, which concerns all messages: leave "
                "out one of the two"
            )
        if match[3] in keys:
            raise ConfigurationError(
                f"{where} has the SHA-256 of an entry before it: remove one, or what the key may "
                "do depends on their order"
            )
        keys[match[3]] = key
    return keys


def _prefixes(text: str, where: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of each prefix in the rest of an entry."""
    seen: set[str] = set()
    for part in text.split(":")[1:]:
        match = _PREFIX.fullmatch(part)
        try:
            prefix = unquote(match[2], errors="strict") if match else ""
        except UnicodeDecodeError:
            prefix = ""
        if match is None or not 0 < len(prefix) <= ID_LENGTH or match[1] in seen:
            raise ConfigurationError(
                f"{where} has something other than :sender=prefix and :conversation=prefix, each "
                f"once and of at most {ID_LENGTH} characters, after the SHA-256; percent-encode "
                "(%3A for ':') what is no letter, digit or one of . _ ~ / @ + -"
            )
        seen.add(match[1])
        yield match[1], prefix
