"""The memory of accepted messages."""

from __future__ import annotations

from uuid import uuid4

from ingress.accept.recent_keys import RecentKeys
from transport.contract import Remembered

_AT = "2026-12-02T09:24:25.776044Z"
_DIGEST = "0123456789abcdef" * 2


def test_a_message_is_found_with_its_first_answer() -> None:
    recent = RecentKeys()
    first, second, unknown = (str(uuid4()) for _ in range(3))
    recent.add(first, _DIGEST, _AT, first)
    recent.add(second, _DIGEST, _AT, "Bestellung-ä\udc80", row=True)
    assert recent.find(first) == Remembered("", _AT, _DIGEST, first)
    assert recent.find(second) == Remembered("", _AT, _DIGEST, "Bestellung-ä\udc80")
    assert recent.find(unknown) is None
    assert [recent.has_row(one) for one in (first, second, unknown)] == [False, True, False]
    recent.add(first, _DIGEST, _AT, first, row=True)
    assert recent.has_row(first)
    recent.forget(first)
    assert recent.find(first) is None


def test_a_message_without_a_digest_is_not_remembered() -> None:
    recent = RecentKeys()
    recent.add("receipt/read/user", "", _AT, "")
    assert recent.find("receipt/read/user") is None


def test_the_last_messages_are_kept_and_no_more_than_twice_as_many() -> None:
    recent = RecentKeys(most=10)
    ids = [str(uuid4()) for _ in range(95)]
    for count, identifier in enumerate(ids, 1):
        recent.add(identifier, _DIGEST, _AT, identifier)
        found = [recent.find(one) is not None for one in ids[:count]]
        assert all(found[-10:])
        assert sum(found) <= 20
