"""Makes a TLA+ module of traces, which extends ``Trace.tla``, and has its configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from lab.specification.traces import THREADS, ConversationTrace, Event

__all__ = ["CONFIGURATION", "trace_module"]

_UNITS = 10_000  # time units per second; TLC's integers have 31 bits
_EVER = 2_000_000_000

CONFIGURATION = """\
SPECIFICATION TraceSpec
CONSTANTS
  Messages <- cMessages
  After <- cAfter
  Count <- cCount
  Home <- cHome
  Starts <- cStarts
  Retries = 1000000
  Losses = 0
  Links = 1000000
  Poison = {}
  Broken = "none"
  Traces <- cTraces
CONSTRAINT Noted
VIEW Matters
INVARIANT Kept
"""


def trace_module(traces: Sequence[ConversationTrace], more: str = "") -> str:
    """Return a module ``Run`` that replays all traces; it numbers their messages consecutively.

    Args:
        traces: The traces.
        more: Further definitions, in TLA+.
    """
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
cTraces == <<
{body}
>>
{more}
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
    return f"[start |-> {trace.start}, threads |-> <<{', '.join(threads)}>>]"


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
