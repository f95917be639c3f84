"""Random histories that are sound by construction.

Everything that happens to a message (its place in each log, its row) happens between its first
attempt and its acknowledgement. So what was acknowledged before another was sent stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from hypothesis import strategies as st

from lab.harness.final import FinalRow, Letter
from lab.harness.history import ClientAttempt, Outcome
from lab.rehearsal.logs import LogEntry
from tests.rehearsal.stories import LOGS, Story, attempt, changed, entry, refused, row
from transport.contract import Reason

_WRITTEN = (("redis",), ("redis",), LOGS, LOGS, LOGS, ("kafka",))
_SHARES = st.floats(0, 1)


@dataclass(frozen=True)
class Sending:
    """How one message fared.

    ``took``, ``old`` and ``new``: how long its request took, and when in it each log got it.
    """

    conversation: str
    sent: int
    took: float
    old: float
    new: float
    phase: int
    end: str

    @classmethod
    def any(cls) -> st.SearchStrategy[Self]:
        return st.builds(
            cls,
            conversation=st.sampled_from("ab"),
            sent=st.integers(0, 20),
            took=st.floats(0.1, 4),
            old=_SHARES,
            new=_SHARES,
            phase=st.integers(0, 5),
            end=st.sampled_from(("ok", "ok", "kept", "gone", "again", "other", "race")),
        )

    def moment(self, log: str) -> float:
        share = self.old if log == "redis" else self.new
        return self.sent + share * self.took


def story_of(sendings: list[Sending]) -> Story:
    """Return what the clients saw, and what is left in the end."""
    story = Story()
    moments: list[tuple[float, FinalRow]] = []
    records: list[tuple[float, str, LogEntry]] = []
    for n, sending in enumerate(sendings):
        story.attempts += _attempts(n, sending)
        if sending.end == "gone":
            continue
        logs = _WRITTEN[sending.phase]
        first = min(logs, key=sending.moment)
        partition = "ab".index(sending.conversation)
        where = {"partition": partition, "message_id": f"id-{n}"}
        made = row(n, conversation=sending.conversation, partition=partition, transport=first)
        moments.append((sending.moment(first), made))
        for log in logs:
            records.append((sending.moment(log), log, entry(n, **where)))
            if sending.end == "race":
                late = sending.sent + sending.took
                other = entry(n + 100, content=f"content-{n}b", **where)
                records.append((late, log, other))
        if sending.end == "race":
            body = b'{"content":"content-%db"}' % n
            reason = Reason.IDEMPOTENCY_CONFLICT
            story.letters.append(Letter(message_id=f"id-{n}", reason=reason, body=body))
    moments.sort(key=lambda item: item[0])
    story.rows = [made for _, made in moments]
    for _, log, record in sorted(records, key=lambda item: item[0]):
        story.logs[log].append(record)
    story.attempts.sort(key=lambda one: one.sent)
    return story


def _attempts(n: int, sending: Sending) -> list[ClientAttempt]:
    times: dict[str, Any] = {
        "conversation": sending.conversation, "phase": sending.phase,
        "sent": float(sending.sent), "ended": sending.sent + sending.took,
    }  # fmt: skip
    made = attempt(n, **times)
    unknown = changed(made, outcome=Outcome.UNKNOWN, status=None, message_id=None, hit=None)
    later = {**times, "sent": made.ended + 0.1, "ended": made.ended + 0.2}
    match sending.end:
        case "kept" | "gone":
            return [unknown]
        case "again":  # Its first attempt did it, and got no answer.
            return [unknown, attempt(n, hit=True, status=200, **later)]
        case "other":
            return [made, refused(n, 422, content=f"content-{n}b", **later)]
        case "race":
            return [made, attempt(n, content=f"content-{n}b", **times)]
    return [made]
