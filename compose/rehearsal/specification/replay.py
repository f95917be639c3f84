"""Replay traces against the specification, by TLC: is each of them among its behaviours?"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from compose.local.guarded import Ending
from compose.rehearsal.specification.history_lines import read_story
from compose.rehearsal.specification.tlc import CheckerError, run_tlc
from compose.rehearsal.specification.traces import THREADS, ConversationTrace, Event, traces_of

__all__ = ["Refusal", "Replayed", "failed", "refusals", "replay"]

_UNITS = 10_000  # of time, in a second; TLC's numbers have 31 bits
_EVER = 2_000_000_000
_LEAST = 40  # messages in a piece
_LONGEST = 300
_AT_ONCE = 120  # messages in one run: TLC takes longer for each state where there are more
_SLACK = 0.25
_LONG_SLACK = 5.0  # a server that was suspended with a record or a row under way
_RUNS = 4  # one run of TLC may take this part of the time: others are not to wait for it in vain
_CLEAN = "Model checking completed. No error has been found."
_WHOLE = re.compile(r'<<"whole", (\d+)>>')
_TAKEN = re.compile(r'<<"taken", (\d+), <<([\d, ]+)>>>>')


class Refusal(msgspec.Struct, kw_only=True, rename="camel"):
    """A trace that the specification does not allow."""

    conversation: str
    after: list[str]
    """The last event of each thread that could be taken."""
    stuck: list[str]
    """The next event of each thread. One of them can't happen then."""
    is_undecided: bool = False
    """TLC's time was over before every way was tried."""


class Replayed(msgspec.Struct, kw_only=True, rename="camel"):
    """What became of a history's sample."""

    conversations: int
    pieces: int
    messages: int
    events: int
    steps: int
    """Steps of the walk that happened within a piece."""
    refused: list[Refusal]
    undecided: list[Refusal] = []
    """Traces that were not decided in TLC's time."""


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
        conversations: How many.
        most: Of their messages, about so many: first those around a step of the walk.
        seconds: For TLC in all. What it has not decided by then stays undecided.
        ending: Ends TLC earlier.

    Raises:
        CheckerMissingError: There is no Java, or no TLC.
        CheckerError: TLC failed.
        HistoryError: The file is no history, or one of another version.
    """
    story = read_story(history, conversations)
    chosen = _chosen(traces_of(story, least=_LEAST, slack=_SLACK), most)
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
    """Return the outcome where TLC gave no verdict: nothing counts as allowed."""
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
    """Return those that are no behaviour of the specification, or are undecided.

    Recorded times are taken at their word first. Where that leads nowhere, a record or a row may be
    later by seconds: its server was suspended with it under way.
    """
    half = seconds / 2  # for each look: the first must not take the time of the second

    def stuck(some: Iterable[ConversationTrace], *, patient: bool) -> Iterator[_Stuck]:
        until = time.monotonic() + half
        for part in _parts(some):
            left = min(seconds / _RUNS, until - time.monotonic())
            yield from _stuck(part, left, ending, patient=patient)

    doubtful = list(stuck(traces, patient=False))
    late = [_later(of.trace) for of in doubtful]
    undecided = {id(trace) for trace, of in zip(late, doubtful, strict=True) if of.is_undecided}
    return [
        # Refused at its word, and no time for another look: that is no pass.
        _refusal(
            of._replace(is_undecided=of.is_undecided and (of.was_run or id(of.trace) in undecided))
        )
        for of in stuck(late, patient=True)
    ]


def _later(trace: ConversationTrace) -> ConversationTrace:
    def later(event: Event) -> Event:
        return event._replace(hi=event.hi + _LONG_SLACK)

    late = {name: list(map(later, trace.threads[name])) for name in ("old", "new", "rows")}
    return replace(trace, threads={**trace.threads, **late})


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
    """How far each thread came."""
    is_undecided: bool
    was_run: bool
    """Whether there was time to look at all."""


def _stuck(
    traces: Sequence[ConversationTrace], seconds: float, ending: Ending | None, *, patient: bool
) -> list[_Stuck]:
    """Run TLC, if there is time left; return the traces whose end it did not reach."""
    text = ""
    if seconds > 0:
        module = _module(traces, patient=patient)
        lines = run_tlc(module, _CONFIGURATION, workers=1, seconds=seconds, ending=ending)
        text = "\n".join(lines)
    if "Error:" in text and _CLEAN not in text:
        raise CheckerError(text[-4000:])  # also where a trace ends and a promise does not hold
    whole = {int(number) for number in _WHOLE.findall(text)}
    taken = {
        int(number): [int(n) for n in counts.split(",")] for number, counts in _TAKEN.findall(text)
    }
    none = [0] * len(THREADS)
    return [
        _Stuck(trace, taken.get(number, none), _CLEAN not in text, seconds > 0)
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


_CONFIGURATION = """\
SPECIFICATION TraceSpec
CONSTANTS
  Messages <- cMessages
  After <- cAfter
  Count <- cCount
  Home <- cHome
  Starts <- cStarts
  Retries = 1000000
  Poison = {}
  Broken = "none"
  Traces <- cTraces
  Patient <- cPatient
CONSTRAINT Noted
VIEW Moment
INVARIANT Kept
"""


def _module(traces: Sequence[ConversationTrace], *, patient: bool) -> str:
    """Return the module: the messages of all traces have numbers of their own."""
    numbers: dict[tuple[int, str], int] = {}
    for at, trace in enumerate(traces):
        for key in trace.messages:
            numbers[at, key] = len(numbers) + 1
    after = [
        _set(str(numbers[at, other]) for other in trace.after[key])
        for at, trace in enumerate(traces)
        for key in trace.messages
    ]
    texts = [
        _trace(trace, {key: numbers[at, key] for key in trace.messages})
        for at, trace in enumerate(traces)
    ]
    body = ",\n".join(texts)
    return f"""---- MODULE Run ----
EXTENDS Trace
cMessages == 1..{len(numbers)}
cAfter == <<{", ".join(after)}>>
cCount == [log \\in {{"old", "new"}} |-> 2]
cHome == [log \\in {{"old", "new"}} |-> [m \\in cMessages |-> 1]]
cStarts == 0..5
cPatient == {str(patient).upper()}
cTraces == <<
{body}
>>
====
"""


def _trace(trace: ConversationTrace, numbers: Mapping[str, int]) -> str:
    moments = [
        moment
        for events in trace.threads.values()
        for event in events
        for moment in (event.lo, event.hi)
        if not math.isinf(moment)
    ]
    zero = min(moments, default=0.0)
    threads = [
        "<<" + ",\n  ".join(_event(event, numbers, zero) for event in trace.threads[name]) + ">>"
        for name in THREADS
    ]
    told = _set(str(numbers[key]) for key in trace.messages if key in trace.told)
    return f"[start |-> {trace.start}, told |-> {told}, threads |-> <<{', '.join(threads)}>>]"


def _event(event: Event, numbers: Mapping[str, int], zero: float) -> str:
    fields = {"what": f'"{event.what}"', **event.fields}
    if event.key is not None:
        fields["m"] = str(numbers[event.key])
    fields["lo"], fields["hi"] = _time(event.lo, zero), _time(event.hi, zero)
    return "[" + ", ".join(f"{name} |-> {value}" for name, value in fields.items()) + "]"


def _time(moment: float, zero: float) -> str:
    if math.isinf(moment):
        return str(_EVER) if moment > 0 else "0"
    return str(1 + round((moment - zero) * _UNITS))


def _set(members: Iterable[str]) -> str:
    return "{" + ", ".join(members) + "}"
