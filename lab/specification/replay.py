"""Replays traces against the specification with TLC: does it allow each of them?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from lab.specification.guarded import Ending
from lab.specification.history_lines import read_story
from lab.specification.tlc import CheckerError, run_tlc
from lab.specification.trace_module import CONFIGURATION, trace_module
from lab.specification.traces import THREADS, ConversationTrace, Event, traces_of

__all__ = ["SLACK", "Refusal", "Replayed", "failed", "refusals", "replay"]

_LEAST = 40  # messages in a piece
_LONGEST = 1000
_AT_ONCE = 400  # messages in one run: a JVM takes a second to start
SLACK = 5.25  # seconds; a server may have been suspended with a record or a row under way
_RUNS = 4  # one run of TLC may take 1/4 of the time, so that the others get some
_CLEAN = "Model checking completed. No error has been found."
_WHOLE = re.compile(r'<<"whole", (\d+)>>')
_TAKEN = re.compile(r'<<"taken", (\d+), <<([\d, ]+)>>>>')


class Refusal(msgspec.Struct, kw_only=True, rename="camel"):
    """A trace that the specification does not allow."""

    conversation: str
    after: list[str]
    """The last event of each thread that could be taken."""
    stuck: list[str]
    """The next event of each thread. At least one of them is not allowed at this point."""
    is_undecided: bool = False
    """Whether TLC's time ended before it had tried every order of events."""


class Replayed(msgspec.Struct, kw_only=True, rename="camel"):
    """The outcome of replaying some conversations of a history."""

    conversations: int
    pieces: int
    messages: int
    events: int
    steps: int
    """Steps of the walk that are part of a piece."""
    refused: list[Refusal]
    undecided: list[Refusal] = []
    """Traces that TLC did not decide in time."""


def replay(
    history: Path,
    *,
    conversations: int,
    most: int = 2000,
    seconds: float = 900.0,
    ending: Ending | None = None,
) -> Replayed:
    """Replay some conversations of a history.

    Args:
        history: The file.
        conversations: Number of conversations.
        most: Approximate number of messages; pieces with a step of the walk come first.
        seconds: Time limit of TLC in all. Traces that are not decided by then stay undecided.
        ending: Ends TLC earlier.

    Raises:
        CheckerMissingError: There is no Java, or no TLC.
        CheckerError: TLC failed.
        HistoryError: The file is not a history, or has another version.
    """
    story = read_story(history, conversations)
    chosen = _chosen(traces_of(story, least=_LEAST, slack=SLACK), most)
    found = refusals(chosen, seconds, ending)
    return Replayed(
        conversations=len({trace.conversation for trace in chosen}),
        pieces=len(chosen),
        messages=sum(len(trace.messages) for trace in chosen),
        events=sum(len(events) for trace in chosen for events in trace.threads.values()),
        steps=sum(event.what == "end" for trace in chosen for event in trace.threads["steps"]),
        refused=[refusal for refusal in found if not refusal.is_undecided],
        undecided=[refusal for refusal in found if refusal.is_undecided],
    )


def failed(why: str) -> Replayed:
    """Return the outcome of a replay in which TLC failed: it counts as refused."""
    refusal = Refusal(conversation="all", after=[], stuck=[why])
    return Replayed(conversations=0, pieces=0, messages=0, events=0, steps=0, refused=[refusal])


def _chosen(traces: Iterable[ConversationTrace], most: int) -> list[ConversationTrace]:
    found, messages = list[ConversationTrace](), 0
    for trace in sorted(traces, key=lambda trace: not trace.threads["steps"]):
        if messages < most and len(trace.messages) <= _LONGEST:
            found.append(trace)
            messages += len(trace.messages)
    return found


def refusals(
    traces: Sequence[ConversationTrace], seconds: float = 900.0, ending: Ending | None = None
) -> list[Refusal]:
    """Return the traces that the specification does not allow, and those left undecided."""
    until = time.monotonic() + seconds
    first = list[_Stuck]()
    for part in _parts(traces):
        first += _stuck(part, min(seconds / _RUNS, until - time.monotonic()), ending)
    doubtful = [of for of in first if of.is_undecided]
    refused = [of for of in first if not of.is_undecided]
    # A slow trace delays the others of its run, so each undecided trace gets a run of its own.
    for left, of in zip(range(len(doubtful), 0, -1), doubtful, strict=True):
        share = (until - time.monotonic()) / left
        refused += _stuck([of.trace], share, ending) if share > 0 else [of]
    return [_refusal(of) for of in refused]


def _parts(traces: Iterable[ConversationTrace]) -> Iterator[list[ConversationTrace]]:
    part, messages = list[ConversationTrace](), 0
    for trace in traces:
        if part and messages + len(trace.messages) > _AT_ONCE:
            yield part
            part, messages = [], 0
        part.append(trace)
        messages += len(trace.messages)
    if part:
        yield part


class _Stuck(NamedTuple):
    trace: ConversationTrace
    taken: Sequence[int]
    """The number of events that each thread could take."""
    is_undecided: bool


def _stuck(
    traces: Sequence[ConversationTrace], seconds: float, ending: Ending | None
) -> list[_Stuck]:
    """Run TLC if time is left; return the traces whose end it did not reach."""
    text = ""
    if seconds > 0:
        text = "\n".join(
            run_tlc(trace_module(traces), CONFIGURATION, workers=1, seconds=seconds, ending=ending)
        )
    if "Error:" in text and _CLEAN not in text:
        raise CheckerError(text[-4000:])  # also if an invariant is violated
    whole = {int(number) for number in _WHOLE.findall(text)}
    taken = {
        int(number): [int(n) for n in counts.split(",")] for number, counts in _TAKEN.findall(text)
    }
    none = [0] * len(THREADS)
    return [
        _Stuck(trace, taken.get(number, none), _CLEAN not in text)
        for number, trace in enumerate(traces, 1)
        if number not in whole
    ]


def _refusal(of: _Stuck) -> Refusal:
    after, stuck = [], []
    for name, count in zip(THREADS, of.taken, strict=True):
        events = of.trace.threads[name]
        after += [_told(name, events[count - 1])] if count else []
        stuck += [_told(name, events[count])] if count < len(events) else []
    return Refusal(
        conversation=of.trace.conversation,
        after=after,
        stuck=stuck,
        is_undecided=of.is_undecided,
    )


def _told(thread: str, event: Event) -> str:
    facts = " ".join(f"{name}={value}" for name, value in event.fields.items())
    return f"{thread}: {event.what} {event.key or ''} {facts} [{event.lo:.3f}, {event.hi:.3f}]"
