"""Reports the alarms of the running service, as the console and ``crossfade status`` have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from compose.doctor.observation import Observation, bad, fine
from compose.process.logs.read_only import watching
from compose.settings import Settings
from ingress.console.health.database import database_sentences
from ingress.console.health.logs import log_sentences
from ingress.console.health.losses import loss_sentence, rows_sentence
from ingress.console.health.wording import alarms_in
from ingress.console.views import LogView, Status
from transport.errors import ConfigurationError

__all__ = ["examine_service"]

_SEE = "see RUNBOOKS.md"


async def examine_service(settings: Settings) -> AsyncIterator[Observation]:
    """Yield the alarms, and the known losses of rows.

    Losses, and servers that did not answer this examination, are among the observations of each
    server, where a time-out is unknown.
    """
    from ingress.console.sampler import Sampler  # noqa: PLC0415 - imports all of the API

    try:
        async with watching(settings) as look:
            status = await Sampler(look.logs, look.pool, seen_by="crossfade doctor").glance()
    except ConfigurationError:
        return  # the observations of the log name it
    known = {text for log in status.logs for text in _observed(log, status)}
    if not status.database.up:
        known |= {sentence.text for sentence in database_sentences(status.database)}
    alarms = [alarm for alarm in alarms_in(status.health) if alarm.text not in known]
    for loss in status.database.row_losses:
        if (sentence := rows_sentence(loss)).level != "alarm":
            yield fine("rows", sentence.text)
    for alarm in alarms:
        yield bad("alarm", alarm.text, alarm.next or _SEE)
    if not alarms:
        yield fine("alarms", "none is known")


def _observed(log: LogView, status: Status) -> Iterator[str]:
    """Yield the texts of alarms that the observations of this log have."""
    if log.loss:
        yield loss_sentence(log.loss).text
    if log.error:
        for sentence in log_sentences(log, status.processes, datetime.now(UTC)):
            yield sentence.text
