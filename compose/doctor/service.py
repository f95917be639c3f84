"""Reports the alarms of the running service, as the console and ``crossfade status`` have them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from compose.doctor.observation import Observation, bad, fine
from compose.process.logs.read_only import watching
from compose.settings import Settings
from ingress.console.health.losses import loss_sentence, rows_sentence
from ingress.console.health.wording import alarms_in
from transport.errors import ConfigurationError

__all__ = ["examine_service"]

_SEE = "see RUNBOOKS.md"


async def examine_service(settings: Settings) -> AsyncIterator[Observation]:
    """Yield the alarms, and the rows that were put back in the last day.

    The losses of the logs are among the observations of each log.
    """
    from ingress.console.sampler import Sampler  # noqa: PLC0415 - imports all of the API

    try:
        async with watching(settings) as look:
            status = await Sampler(look.logs, look.pool, seen_by="crossfade doctor").glance()
    except ConfigurationError:
        return  # the observations of the log name it
    losses = {loss_sentence(log.loss).text for log in status.logs if log.loss}
    alarms = [alarm for alarm in alarms_in(status.health) if alarm.text not in losses]
    for alarm in alarms:
        yield bad("alarm", alarm.text, alarm.next or _SEE)
    if not alarms:
        yield fine("alarms", "none is known")
    for rows in status.database.put_back:
        yield fine("rows", rows_sentence(rows).text)
