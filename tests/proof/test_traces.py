"""Histories are replayed against the specification: what happened is allowed, sabotage is not."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import pytest

from lab.specification.history_lines import (
    AttemptLine,
    ConversationLines,
    RecordLine,
    RowLine,
    StepLine,
    Story,
)
from lab.specification.replay import SLACK, Refusal, refusals
from lab.specification.tlc import CheckerMissingError
from lab.specification.traces import traces_of
from tests.support.requirements import absent

OLD, NEW = "redis", "kafka.b"
THERE = (0, 1, 1, 2, 2, 3, 3, 4, 5)  # of the ingress that takes each message, 10 s after the last
BACK = (5, 5, 4, 4, 3, 2, 1, 0)


def sound(phases: Sequence[int] = THERE) -> Story:
    """A walk in which each message is settled before the next one is sent."""
    conversation = ConversationLines("c")
    story = Story(
        old=OLD, new=NEW, clock_error=0.001, conversations={"c": conversation},
        first_phase=phases[0],
    )  # fmt: skip
    places: dict[str, list[tuple[float, int]]] = {OLD: [], NEW: []}
    for n, phase in enumerate(phases):
        at = 10.0 * n
        primary, shadow = (OLD, NEW) if phase <= 3 else (NEW, OLD)
        conversation.attempts.append(
            AttemptLine(
                client="w", kind="message", conversation="c", key=f"k{n}", digest=f"d{n}",
                sent=at, ended=at + 2.5, outcome="ok", phase=phase,
            )
        )  # fmt: skip
        append(conversation, n, primary, at + 1)
        if phase in range(1, 5):
            append(conversation, n, shadow, at + 2, original=primary, sync=phase > 1)
        conversation.rows.append(
            RowLine(key=f"k{n}", conversation="c", log=OLD if phase <= 2 else NEW, at=at + 3)
        )
        for log, seen in places.items():
            seen.append((at + 4, len(of_log(conversation, log))))
        for to in {phases[min(n + 1, len(phases) - 1)]} - {phase}:
            story.steps.append(
                StepLine(
                    origin=phase, to=to, asked=at + 5, begun=at + 6, arrived=at + 7, rolled=at + 8
                )
            )
    story.places = {(log, 3): seen for log, seen in places.items()}
    return story


def append(
    to: ConversationLines,
    n: int,
    log: str,
    at: float,
    *,
    original: str | None = None,
    sync: bool = True,
) -> None:
    offset = str(len(of_log(to, log)))
    record = RecordLine(
        log=log, partition=3, offset=offset, at=at, digest=f"d{n}", ordinal=int(offset) + 1
    )
    if original is not None:
        record.mirror_of = f"{original}:{record_of(to, n, original).offset}"
        record.mode = "sync" if sync else "async"
    to.records.append(record)


def of_log(conversation: ConversationLines, log: str) -> list[RecordLine]:
    return [record for record in conversation.records if record.log == log]


def record_of(conversation: ConversationLines, n: int, log: str) -> RecordLine:
    return next(record for record in of_log(conversation, log) if record.digest == f"d{n}")


def other(log: str) -> str:
    return NEW if log == OLD else OLD


def both_whole(story: Story) -> list[int]:
    """Return the messages that are sent in the phases that write both logs."""
    attempts = story.conversations["c"].attempts
    return [n for n, attempt in enumerate(attempts) if attempt.phase in (2, 3, 4)]


def late(story: Story, n: int, at: float) -> RowLine:
    """Move a row, and forget where the positions were seen before it."""
    row = story.conversations["c"].rows[n]
    row.at = at
    story.places = {
        of: [(moment, count) for moment, count in seen if not 10 * n < moment < at]
        for of, seen in story.places.items()
    }
    return row


def lagging(story: Story) -> None:
    """No worker was there while two messages came; then both became rows."""
    rows = story.conversations["c"].rows
    rows[3].at = rows[4].at + 0.01
    rows[4].at = rows[3].at
    story.places[OLD, 3][3] = (story.places[OLD, 3][3][0], 3)
    story.places[NEW, 3][3] = story.places[NEW, 3][2]


def from_memory(story: Story) -> None:
    """A message was sent twice: the first answer never came, the second process remembered it."""
    attempts = story.conversations["c"].attempts
    again = deepcopy(attempts[3])
    attempts[3].outcome, attempts[3].ended = "unknown", 32.2
    again.sent, again.ended = 32.3, 32.5
    attempts.insert(4, again)


def backfilled(story: Story) -> None:
    """In phase 1 a copy was dropped; backfill made it later."""
    record_of(story.conversations["c"], 2, NEW).mode = "backfill"


def copied_again(story: Story) -> None:
    """In phase 1 the answer to a copy was lost, and it was made once more."""
    conversation = story.conversations["c"]
    copy = record_of(conversation, 1, NEW)
    again = deepcopy(copy)
    again.offset, again.at = "again", copy.at + 0.5
    conversation.records.insert(conversation.records.index(copy) + 1, again)
    for ordinal, record in enumerate(of_log(conversation, NEW), 1):
        record.ordinal = ordinal
    story.places[NEW, 3] = [(at, count + (count > 0)) for at, count in story.places[NEW, 3]]


def copied_again_of_the_second_original(story: Story) -> None:
    """In phase 2 a message was appended twice, and the answer to its second copy was lost."""
    conversation = story.conversations["c"]
    attempt, original = conversation.attempts[3], record_of(conversation, 3, OLD)
    again = deepcopy(attempt)
    attempt.outcome, attempt.ended = "unknown", 31.2
    again.sent = 31.3
    conversation.attempts.insert(4, again)
    second = deepcopy(original)
    second.offset, second.at = "second", 31.4
    copy = record_of(conversation, 3, NEW)
    copy.mirror_of = f"{OLD}:{second.offset}"
    repeat = deepcopy(copy)
    repeat.offset, repeat.at = "again", copy.at + 0.2
    for record, after in ((second, original), (repeat, copy)):
        conversation.records.insert(conversation.records.index(after) + 1, record)
    for log in (OLD, NEW):
        for ordinal, record in enumerate(of_log(conversation, log), 1):
            record.ordinal = ordinal
        story.places[log, 3] = [(at, n + (at > 32)) for at, n in story.places[log, 3]]


def from_the_other_log(story: Story) -> None:
    """While both logs are whole, rows come from the one that the phase does not consume."""
    for n in both_whole(story):
        row = story.conversations["c"].rows[n]
        row.log = other(row.log)


def below_the_mark(story: Story) -> None:
    """Phase 2 began while a message of phase 1 was no row yet."""
    late(story, 2, 33)


def after_a_log_is_closed(story: Story) -> None:
    n = both_whole(story)[-1]
    late(story, n, 10 * n + 9)


def stored_while_a_log_is_closed(story: Story) -> None:
    """A row comes from a log that may be closed before its record is there."""
    conversation, n = story.conversations["c"], both_whole(story)[-1]
    begins = 10 * n + 5
    attempt, row = conversation.attempts[n], late(story, n, begins + 0.5)
    attempt.sent, attempt.ended = begins - 0.5, begins + 2.5
    row.log = other(row.log)
    for log, at in ((other(row.log), 0.4), (row.log, 0.2)):
        record_of(conversation, n, log).at = begins - at


def answered_while_a_step_ends(story: Story, ended: float = 0.5) -> None:
    """A record may be later than the mark; then its row may come from the other log."""
    conversation, n = story.conversations["c"], both_whole(story)[0]
    arrived = 10 * n - 3
    attempt, row = conversation.attempts[n], conversation.rows[n]
    attempt.sent, attempt.ended = arrived - 0.5, arrived + ended
    row.log = other(row.log)
    for log, at in ((other(row.log), 0.4), (row.log, 0.3)):
        record_of(conversation, n, log).at = arrived - at


def answered_before_a_step_ends(story: Story) -> None:
    """The same, but the answer says that the record is below the mark."""
    answered_while_a_step_ends(story, ended=-0.2)


def reordered(story: Story) -> None:
    lagging(story)
    rows = story.conversations["c"].rows
    rows[3], rows[4] = rows[4], rows[3]


def doubled(story: Story) -> None:
    rows = story.conversations["c"].rows
    rows.insert(5, deepcopy(rows[4]))


def acknowledged_early(story: Story) -> None:
    """The position in the new log passed a record a second before its row was there."""
    story.places[NEW, 3].insert(3, (32.0, len(of_log(story.conversations["c"], NEW)) - 5))
    record_of(story.conversations["c"], 3, NEW).at = 31.5


def before_the_mark_is_reached(story: Story) -> None:
    """A message of phase 1 became a row of the new log in phase 2."""
    late(story, 2, 33).log = NEW


def beyond_the_mark(story: Story) -> None:
    """A row came from a log that was closed."""
    n = both_whole(story)[-1]
    row = late(story, n, 10 * n + 9)
    row.log = other(row.log)


def answered_before_its_copy(story: Story) -> None:
    record_of(story.conversations["c"], 3, NEW).at = 32.7


def never_copied(story: Story) -> None:
    records = story.conversations["c"].records
    records.remove(record_of(story.conversations["c"], 4, NEW))


def read_from_the_shadow(story: Story) -> None:
    """In phase 1 a row came from a copy."""
    story.conversations["c"].rows[2].log = NEW


def two_homes(story: Story) -> None:
    record_of(story.conversations["c"], 3, OLD).partition = 4


def other_order_in_the_new_log(story: Story) -> None:
    records = story.conversations["c"].records
    a, b = (records.index(record_of(story.conversations["c"], n, NEW)) for n in (3, 4))
    records[a], records[b] = records[b], records[a]


def skipped(story: Story) -> None:
    """A message was acknowledged, is in both logs, and never became a row."""
    story.conversations["c"].rows.pop(4)


def never_appended(story: Story) -> None:
    conversation = story.conversations["c"]
    conversation.rows.pop(4)
    for log in (OLD, NEW):
        conversation.records.remove(record_of(conversation, 4, log))


def answered_before_its_record(story: Story) -> None:
    record_of(story.conversations["c"], 1, OLD).at = 12.8


def appended_to_the_shadow(story: Story) -> None:
    """In phase 3 an ingress took the new log for its primary."""
    conversation = story.conversations["c"]
    original, copy = record_of(conversation, 5, OLD), record_of(conversation, 5, NEW)
    copy.mirror_of, copy.mode = None, None
    original.mirror_of, original.mode = f"{NEW}:{copy.offset}", "sync"


def copied_without_a_shadow(story: Story) -> None:
    conversation = story.conversations["c"]
    append(conversation, 0, NEW, 2.0, original=OLD)
    records = conversation.records
    records.insert(1, records.pop())
    for ordinal, record in enumerate(of_log(conversation, NEW), 1):
        record.ordinal = ordinal
    story.places[NEW, 3] = [(at, count + 1) for at, count in story.places[NEW, 3]]


def copy_of_another_record(story: Story) -> None:
    conversation = story.conversations["c"]
    other = record_of(conversation, 3, OLD)
    record_of(conversation, 4, NEW).mirror_of = f"{OLD}:{other.offset}"


def process_left_behind(story: Story) -> None:
    """An ingress was on phase 1 when all were counted as on phase 3."""
    story.conversations["c"].attempts[5].phase = 1


def two_phases_at_once(story: Story) -> None:
    """A step led from phase 3 to 5."""
    story.steps[3].to = 5
    story.steps.pop(4)


ALLOWED = (
    lambda _: None,
    lagging,
    from_memory,
    backfilled,
    copied_again,
    copied_again_of_the_second_original,
    below_the_mark,
    from_the_other_log,
    after_a_log_is_closed,
    stored_while_a_log_is_closed,
    answered_while_a_step_ends,
)
ALLOWED_BACK = (
    lambda _: None,
    from_the_other_log,
    after_a_log_is_closed,
    stored_while_a_log_is_closed,
    answered_while_a_step_ends,
)
SABOTAGES = (
    reordered,
    doubled,
    skipped,
    never_appended,
    acknowledged_early,
    before_the_mark_is_reached,
    beyond_the_mark,
    answered_before_a_step_ends,
    answered_before_its_record,
    answered_before_its_copy,
    never_copied,
    appended_to_the_shadow,
    copied_without_a_shadow,
    copy_of_another_record,
    read_from_the_shadow,
    process_left_behind,
    two_phases_at_once,
    two_homes,
    other_order_in_the_new_log,
)
SABOTAGES_BACK = (beyond_the_mark, answered_before_a_step_ends)
HISTORIES = [
    *((THERE, change) for change in ALLOWED),
    *((BACK, change) for change in ALLOWED_BACK),
    *((THERE, change) for change in SABOTAGES),
    *((BACK, change) for change in SABOTAGES_BACK),
]
SOUND = len(ALLOWED) + len(ALLOWED_BACK)
CUTS = {"whole": 100, "in pieces": 1}  # and the least messages of a piece


@pytest.fixture(scope="module")
def refused() -> dict[str, Refusal]:
    """Replay all of them in one go, each as a conversation of its own name."""
    traces = []
    for number, (phases, change) in enumerate(HISTORIES):
        for cut, least in CUTS.items():
            story = sound(phases)
            change(story)
            story.conversations["c"].name = name_of(number, cut)
            traces += list(traces_of(story, least=least, slack=SLACK))
    try:
        return {refusal.conversation: refusal for refusal in refusals(traces)}
    except CheckerMissingError as error:
        absent(str(error))


def name_of(number: int, cut: str) -> str:
    return f"{number} {HISTORIES[number][1].__name__} {cut}"


def test_what_there_is_no_time_for_is_undecided():
    traces = list(traces_of(sound(), least=100, slack=SLACK))
    assert [refusal.is_undecided for refusal in refusals(traces, 0.0)] == [True] * len(traces)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("number", range(SOUND), ids=lambda n: name_of(n, ""))
def test_what_may_happen_is_allowed(refused, number, cut):
    assert refused.get(name_of(number, cut)) is None


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("number", range(SOUND, len(HISTORIES)), ids=lambda n: name_of(n, ""))
def test_a_sabotaged_history_is_refused(refused, number, cut):
    """Also where the history is cut wherever it may be: a cut hides nothing."""
    assert not refused[name_of(number, cut)].is_undecided


def test_a_long_life_is_replayed_in_pieces():
    """Everything is settled between two messages; it is cut where no step is under way."""
    pieces = list(traces_of(sound(), least=2, slack=SLACK))
    assert [len(piece.messages) for piece in pieces] == [2, 2, 2, 3]
    assert [piece.start for piece in pieces] == [0, 1, 2, 3]
