"""The sentences about losses, for readiness, the console and the commands.

Each names what was lost, what was put back, what is gone, and when that was; then the remedy, and
when the sentence ends.
"""

from __future__ import annotations

from ingress.console.health.wording import span
from ingress.console.views import Sentence
from otel.losses import Loss
from persistence.store.row_losses import RowLoss

__all__ = ["loss_sentence", "rescue_sentence", "rows_sentence"]

_ALARM_SECONDS = 3600.0  # as long as the alert QueueMessagesLost lasts
_WAIT = "Set REDIS_WAIT_REPLICAS to the number of replicas, and a failover loses none."


def loss_sentence(loss: Loss) -> Sentence:
    """Return the sentence about records that left a log unread.

    It is an alarm for an hour after the latest loss, or for as long as the time is unknown. It is a
    notice after that, and if all records were put back.
    """
    records = "1 record" if loss.lost == 1 else f"{loss.lost} records"
    when = "at an unknown time"
    if loss.seconds is not None:
        when = f"{'' if loss.lost == 1 else 'the last '}{span(loss.seconds)} ago"
    text = (
        f"{records} left {loss.transport} unread, {when}: {_were(loss.lost - loss.gone)} put back, "
        f"{_are(loss.gone)} gone."
    )
    if loss.is_uncounted:
        text += " More may be gone than could be counted."
    if loss.is_healed:
        return Sentence(level="notice", text=text, next=_WAIT, page="partitions")
    remedy = (
        "Another log may have these records (`crossfade audit --transport LOG --repair`), or their "
        "producers send them again with the same keys: see QueueMessagesLost in RUNBOOKS.md."
    )
    if loss.seconds is not None and loss.seconds >= _ALARM_SECONDS:
        return Sentence(level="notice", text=text, next=remedy, page="partitions")
    ends = "This alarm ends an hour after the last loss; the count stays."
    if loss.seconds is None:
        ends = "This alarm stays, since the log does not record when it lost them."
    return Sentence(level="alarm", text=text, next=f"{remedy} {ends}", page="partitions")


def rescue_sentence(name: str, rescued: int) -> Sentence:
    """Return the sentence about records that workers had read, and that failovers lost.

    Processes appended ``rescued`` of them again in the last day.
    """
    records = "1 record" if rescued == 1 else f"{rescued} records"
    return Sentence(
        level="notice",
        text=f"Failovers of {name} lost {records} in the last day: all were put back, none is "
        "known to be gone.",
        next=f"{_WAIT} `crossfade audit` compares the log with the rows.",
        page="partitions",
    )


def rows_sentence(loss: RowLoss) -> Sentence:
    """Return the sentence about rows of acknowledged messages that PostgreSQL lost.

    If their records are gone too, it is an alarm for an hour, and a notice for 30 days. Otherwise
    it is a notice for a day.
    """
    partitions = "1 partition" if loss.partitions == 1 else f"{loss.partitions} partitions"
    when = f"{span(loss.seconds)} ago"
    if not loss.are_gone:
        return Sentence(
            level="notice",
            text=f"PostgreSQL lost rows of acknowledged messages, the last {when}: workers "
            f"put them back from {loss.log}, in {partitions}.",
            next="Find out why: a backup was restored, or a standby that was behind was promoted. "
            "`crossfade audit` compares the rows with the log. This notice ends a day after the "
            "last loss.",
            page="partitions",
        )
    is_alarm = loss.seconds < _ALARM_SECONDS
    ends = (
        " This alarm ends an hour after the last loss, and a notice after 30 days."
        if is_alarm
        else ""
    )
    return Sentence(
        level="alarm" if is_alarm else "notice",
        text=f"Records of {loss.log} that had no row are gone, in {partitions}, the last {when}: "
        "PostgreSQL went back too far, or no worker read them in time.",
        next="Another log or a backup may have them (`crossfade audit --transport LOG --repair`), "
        "or their producers send them again with the same keys: see RowsLost in RUNBOOKS.md."
        f"{ends}",
        page="partitions",
    )


def _were(count: int) -> str:
    return "none was" if not count else "1 was" if count == 1 else f"{count} were"


def _are(count: int) -> str:
    return "none is" if not count else "1 is" if count == 1 else f"{count} are"
