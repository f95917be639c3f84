"""The name of a content in a history: small content is its own name, large content has its SHA-256.

Each content belongs to one key and one version of its body, and so does its digest. So histories,
rows and records are compared by these names. A name computed from the bytes that were *read* proves
those bytes.
"""

from __future__ import annotations

from hashlib import sha256

__all__ = ["digest_of", "is_large", "name_of", "name_of_digest", "text_in_log"]

_LARGE = "sha256:"


def name_of(data: bytes) -> str:
    """Return the name of large content."""
    return name_of_digest(sha256(data).hexdigest())


def name_of_digest(digest: str) -> str:
    """Return the name of the large content that has this SHA-256."""
    return _LARGE + digest


def is_large(name: str) -> bool:
    """Return whether the content is large, and so in the payload store."""
    return name.startswith(_LARGE)


def digest_of(name: str) -> str:
    """Return the SHA-256 of the content."""
    return name.removeprefix(_LARGE) if is_large(name) else sha256(name.encode()).hexdigest()


def text_in_log(name: str) -> str:
    """Return text that every record of this content has, and no record of another content."""
    return name.removeprefix(_LARGE)
