"""Records that this process has just appended, as a fetch would return them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from transport.contract import Appended, Envelope, Outcome, Record, Topic

__all__ = ["appended_runs"]


def appended_runs(
    envelopes: Sequence[Envelope],
    outcomes: Sequence[tuple[Outcome, int]],
    is_wanted: Callable[[int], bool],
) -> Iterator[tuple[int, Sequence[Record]]]:
    """Yield runs of adjacent appended records with their partitions, in the order of the log.

    Args:
        envelopes: What was appended.
        outcomes: The outcome of each, and the log's time of its append; -1 leaves the record out.
        is_wanted: Returns whether to yield the records of a partition.
    """
    runs: dict[int, list[Record]] = {}
    wanted = {partition for partition in {it.partition for it in envelopes} if is_wanted(partition)}
    if not wanted:
        return
    for envelope, (outcome, time) in zip(envelopes, outcomes, strict=True):
        partition = envelope.partition
        if partition not in wanted or time < 0 or not isinstance(outcome, Appended):
            continue
        run = runs.get(partition)
        if run and int(run[-1].offset) + 1 != int(outcome.offset):
            yield partition, runs.pop(partition)
            run = None
        if run is None:
            run = runs[partition] = []
        run.append(
            Record(
                Topic.MESSAGES,
                partition,
                outcome.offset,
                envelope.key,
                envelope.body,
                {name: value.encode() for name, value in envelope.headers.items()},
                time / 1000,
                event=envelope.event,
                fingerprint=envelope.fingerprint,
            )
        )
    yield from runs.items()
