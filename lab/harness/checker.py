"""The checker: compares the clients' history with the final rows, receipts and dead letters.

It works like Jepsen's log checker: a message whose outcome is ``ok`` must have a row, one that
``failed`` must have none, and an ``unknown`` one may have a row or not. It does not rely on unique
constraints of the database: each content belongs to one key and one version of its body, so it
also finds a message that is stored twice under two keys.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from lab.harness.anomaly import Anomaly, What
from lab.harness.content_name import text_in_log
from lab.harness.final import Final, FinalRow, Letter
from lab.harness.history import ClientAttempt, ClientHistory, Outcome, RequestKind
from transport.contract import Reason

__all__ = ["check"]


class _Case:
    """History and final state, with the indexes that the rules use."""

    def __init__(self, history: ClientHistory, final: Final) -> None:
        self.history = history
        self.final = final
        self.messages = history.by_key(RequestKind.MESSAGE)
        self.receipts = history.by_key(RequestKind.RECEIPT)
        self.row_by_key = {row.key: row for row in final.rows}
        self.letters: Mapping[str, list[Letter]] = defaultdict(list)
        for letter in final.letters:
            self.letters[letter.message_id].append(letter)


def check(history: ClientHistory, final: Final) -> list[Anomaly]:
    """Return the anomalies; empty if every promise was kept."""
    case = _Case(history, final)
    return [anomaly for rule in _RULES for anomaly in rule(case)]


def _lost(case: _Case) -> Iterator[Anomaly]:
    for key, attempts in case.messages.items():
        oks = [a for a in attempts if a.outcome is Outcome.OK]
        if not oks or key in case.row_by_key:
            continue
        letters = case.letters.get(oks[0].message_id or "", [])
        # A dead letter for a conflict is no proof: it says that another message has the row.
        if all(letter.reason is Reason.IDEMPOTENCY_CONFLICT for letter in letters):
            yield Anomaly(
                What.LOST, key, f"acknowledged {len(oks)}x, first at {oks[0].ended:.3f} by "
                f"{oks[0].via} as {oks[0].message_id}"
            )  # fmt: skip
    there = set(case.final.receipts)
    for key, attempts in case.receipts.items():
        if any(a.outcome is Outcome.OK for a in attempts) and key not in there:
            yield Anomaly(What.LOST, key, "an acknowledged receipt")


def _doubled(case: _Case) -> Iterator[Anomaly]:
    # The content identifies a body: a second row with it is a double, whatever its key and id.
    identities: tuple[Callable[[FinalRow], str], ...] = (
        lambda row: row.key,
        lambda row: row.message_id,
        lambda row: row.content,
    )
    seen: set[tuple[int, int]] = set()
    for identity in identities:
        first: dict[str, int] = {}
        for at, row in enumerate(case.final.rows):
            earlier = first.setdefault(identity(row), at)
            if earlier != at and (earlier, at) not in seen:
                seen.add((earlier, at))
                other = case.final.rows[earlier]
                yield Anomaly(
                    What.DOUBLED, row.key, f"{other.message_id} from {other.transport} "
                    f"{other.offset} and {row.message_id} from {row.transport} {row.offset}"
                )  # fmt: skip
    for key, count in Counter(case.final.receipts).items():
        if count > 1:
            yield Anomaly(What.DOUBLED, key, f"{count} rows of one receipt")


def _phantoms(case: _Case) -> Iterator[Anomaly]:
    for row in case.final.rows:
        attempts = case.messages.get(row.key, [])
        if not attempts:
            yield Anomaly(What.PHANTOM, row.key, "no attempt has this key")
            continue
        same = [
            a for a in attempts if a.content == row.content and a.conversation == row.conversation
        ]
        if not same:
            text = f"{len(attempts)} attempts had other contents, or another conversation"
            yield Anomaly(What.ALTERED, row.key, text)
        elif all(a.outcome is Outcome.FAILED for a in same):
            statuses = sorted({str(a.status) for a in same})
            yield Anomaly(What.PHANTOM, row.key, f"every attempt failed: {', '.join(statuses)}")
    for key in case.final.receipts:
        tries = case.receipts.get(key, [])
        if all(a.outcome is Outcome.FAILED for a in tries):
            yield Anomaly(What.PHANTOM, key, "a receipt that nobody sent, or that was refused")


def _reordered(case: _Case) -> Iterator[Anomaly]:
    conversations: dict[str, list[FinalRow]] = defaultdict(list)
    for row in case.final.rows:
        conversations[row.conversation].append(row)
    for rows in conversations.values():
        # Compare with the latest-sent of the rows before: if that one was sent before this row's
        # acknowledgement, all of them were.
        latest: tuple[float, FinalRow] | None = None
        for row in rows:
            attempts = [a for a in case.messages.get(row.key, []) if a.content == row.content]
            if not attempts:
                continue
            acked = min((a.ended for a in attempts if a.outcome is Outcome.OK), default=None)
            if latest is not None and acked is not None and acked < latest[0]:
                yield Anomaly(
                    What.REORDERED, row.conversation, f"{latest[1].key} was sent "
                    f"{(latest[0] - acked) * 1000:.1f} ms after {row.key} was acknowledged, and "
                    f"stands before it ({latest[1].transport} {latest[1].offset}, {row.transport} "
                    f"{row.offset})"
                )  # fmt: skip
            sent = min(a.sent for a in attempts)
            if latest is None or sent > latest[0]:
                latest = (sent, row)


def _ids(case: _Case) -> Iterator[Anomaly]:
    stored: dict[str, set[str | None]] = defaultdict(set)
    for row in case.final.rows:
        stored[row.key].add(row.message_id)
    for key, attempts in case.messages.items():
        ids = stored[key] | {a.message_id for a in attempts if a.outcome is Outcome.OK}
        if len(ids) > 1:
            yield Anomaly(What.ID_CHANGED, key, " and ".join(sorted(map(str, ids))))


def _conflicts(case: _Case) -> Iterator[Anomaly]:
    for key, attempts in case.messages.items():
        row = case.row_by_key.get(key)
        if row is None:
            continue
        for attempt in attempts:
            if attempt.outcome is not Outcome.OK or attempt.content == row.content:
                continue
            letters = case.letters.get(row.message_id, [])
            if not any(_holds(letter, attempt) for letter in letters):
                yield Anomaly(
                    What.CONFLICT_LOST, key, f"{attempt.content!r} was acknowledged by "
                    f"{attempt.via}; the row has {row.content!r}"
                )  # fmt: skip


def _holds(letter: Letter, attempt: ClientAttempt) -> bool:
    conflict = letter.reason is Reason.IDEMPOTENCY_CONFLICT
    return conflict and text_in_log(attempt.content).encode() in letter.body


def _dead_letters(case: _Case) -> Iterator[Anomaly]:
    bodies: dict[str, set[str]] = defaultdict(set)
    for key, attempts in case.messages.items():
        contents = {a.content for a in attempts}
        ids = {a.message_id for a in attempts if a.message_id}
        if row := case.row_by_key.get(key):  # without an answer, the id is known from the row
            ids.add(row.message_id)
        for message_id in ids:
            bodies[message_id] |= contents
    for message_id, letters in case.letters.items():
        for letter in letters:
            planted = case.history.planted.get(message_id) is letter.reason
            conflict = letter.reason is Reason.IDEMPOTENCY_CONFLICT and len(bodies[message_id]) > 1
            if not planted and not conflict:
                yield Anomaly(
                    What.DEAD_LETTERED, message_id, f"{letter.reason}: {letter.error} "
                    f"(after {letter.attempts} attempts)"
                )  # fmt: skip
    for message_id, reason in case.history.planted.items():
        if not any(letter.reason is reason for letter in case.letters.get(message_id, [])):
            yield Anomaly(What.POISON_VANISHED, message_id, f"expected {reason}")


def _pages(case: _Case) -> Iterator[Anomaly]:
    for conversation, seen in case.final.pages.items():
        there = [r.message_id for r in case.final.rows if r.conversation == conversation]
        if list(seen) != there:
            skipped, made_up = set(there) - set(seen), set(seen) - set(there)
            yield Anomaly(
                What.PAGE_DIFFERS, conversation, f"{len(there)} rows, {len(seen)} seen; skipped "
                f"{sorted(skipped)[:3]}, seen and not there {sorted(made_up)[:3]}"
            )  # fmt: skip


def _answers(case: _Case) -> Iterator[Anomaly]:
    for attempts in (*case.messages.values(), *case.receipts.values()):
        several = len({a.content for a in attempts}) > 1
        for attempt in attempts:
            status = attempt.status or 0
            if status >= 500 and (status != 503 or not attempt.retry_after):
                yield Anomaly(What.SERVER_ERROR, attempt.key, f"{status} {attempt.detail}")
            elif 400 <= status < 500 and not (status == 422 and several):
                yield Anomaly(What.REFUSED, attempt.key, f"{status} {attempt.detail}")
            elif attempt.hit and not _sent_before(attempt, attempts):
                yield Anomaly(What.FALSE_HIT, attempt.key, f"by {attempt.via}")


def _sent_before(attempt: ClientAttempt, attempts: Sequence[ClientAttempt]) -> bool:
    return any(
        other is not attempt and other.outcome is not Outcome.FAILED and other.sent < attempt.ended
        for other in attempts
    )


_RULES: tuple[Callable[[_Case], Iterator[Anomaly]], ...] = (
    _lost,
    _doubled,
    _phantoms,
    _reordered,
    _ids,
    _conflicts,
    _dead_letters,
    _pages,
    _answers,
)
