"""The replay takes events in one order where it may: it finds what a search of all orders finds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

import pytest

from lab.specification.replay import SLACK
from lab.specification.tlc import CheckerMissingError, run_tlc
from lab.specification.trace_module import CONFIGURATION, trace_module
from lab.specification.traces import ConversationTrace, traces_of
from tests.proof.simulated import CHANGES, simulated
from tests.support.requirements import absent

_WHOLE = re.compile(r'<<"whole", (\d+)>>')
_STATES = re.compile(r"([\d,]+) distinct states found")
_CLEAN = "Model checking completed. No error has been found."

ANY_ORDER = r"""
AnySend(i) ==
    /\ \E phase \in Senders(Event(i)) : SendBy(Event(i).m, phase)
    /\ Appended(Event(i), Record(Event(i).m, "original"))
    /\ Take(i)
AnyCopy(i) ==
    /\ \E copy \in copies :
        IsCopy(copy, Event(i)) /\ Make(copy) /\ Appended(Event(i), copy.record)
    /\ Take(i)
AnyRows ==
    /\ Left(ROWS) /\ Event(ROWS).log \in Logs /\ Work(Event(ROWS).log, 1)
    /\ LET more == SubSeq(db'.rows, Len(db.rows) + 1, Len(db'.rows))
           Taken(n) == Thread(ROWS)[taken[ROWS] + n]
       IN /\ more # <<>> /\ taken[ROWS] + Len(more) <= Len(Thread(ROWS))
          /\ \A n \in DOMAIN more : Taken(n).m = more[n] /\ Taken(n).log = Event(ROWS).log
          /\ \A n \in DOMAIN more : Due(ROWS, Taken(n))
          /\ taken' = [taken EXCEPT ![ROWS] = @ + Len(more)]
    /\ UNCHANGED <<trace, data>>
AnyAnswer ==
    /\ May(ANSWERS, "told")
    /\ LET m == Event(ANSWERS).m IN
        /\ m \notin acked
        /\ \/ FindRow(m)
           \/ \E phase \in present : SendBy(m, phase) /\ UNCHANGED logs
           \/ \E copy \in copies : copy.record.message = m /\ Make(copy) /\ UNCHANGED logs
        /\ <<acked, copies>>' # <<acked, copies>>
    /\ Unrecorded
AnyNext ==
    \/ \E log \in Followed : Follow(log, 1) /\ Unrecorded
    \/ \E i \in Looks : Look(i)
    \/ AnyRows
    \/ \E i \in RECORDS : (CanSend(i) /\ AnySend(i)) \/ (CanCopy(i) /\ AnyCopy(i))
    \/ (CanBegin /\ BeginRecorded) \/ (CanEnd /\ EndRecorded)
    \/ AnyAnswer \/ \E i \in RECORDS : CopyUnrecorded(i)
AnySpec == TraceInit /\ [][AnyNext]_<<vars, trace, data, taken>>
AnyMatters == <<trace, taken, present, chain, whole, logs, db, sent, acked, copies>>
Refined == [][Next]_vars
"""
_ANY = CONFIGURATION.replace("TraceSpec", "AnySpec").replace("Matters", "AnyMatters")
_REFINED = CONFIGURATION.replace("INVARIANT Kept", "PROPERTY Refined")
_FREE = _ANY.replace("INVARIANT Kept\n", "")


def replayed(traces: Sequence[ConversationTrace], configuration: str) -> str:
    """Return what TLC said."""
    try:
        lines = run_tlc(trace_module(traces, ANY_ORDER), configuration, workers=1, seconds=600)
    except CheckerMissingError as error:
        absent(str(error))
    text = "\n".join(lines)
    assert _CLEAN in text, text[-3000:]
    return text


def allowed(traces: Sequence[ConversationTrace], configuration: str) -> set[int]:
    text = replayed(traces, configuration)
    return {int(number) - 1 for number in _WHOLE.findall(text)}


def trace(seed: int, *, changed: bool) -> ConversationTrace:
    story, rng = simulated(seed), Random(seed)
    if changed:
        rng.choice(CHANGES)(rng, story)
    return next(traces_of(story, least=100, slack=rng.choice([0.25, 1.0, 3.0])))


def compare(seeds: Sequence[int]) -> None:
    sound = [trace(seed, changed=False) for seed in seeds]
    both = sound + [trace(seed, changed=True) for seed in seeds]
    one = allowed(both, CONFIGURATION.replace("INVARIANT Kept\n", ""))
    assert one >= set(range(len(sound))), "what a service may do is allowed"
    refused = set(range(len(both))) - one
    assert len(refused) > len(seeds) / 4, "some changes are seen"
    assert allowed(both, _FREE) == one


def test_one_order_finds_what_all_orders_find():
    compare(range(8, 16))


@pytest.mark.chaos
def test_one_order_finds_what_all_orders_find_in_many_histories():
    for first in range(1000, 1200, 40):
        compare(range(first, first + 40))


def test_each_step_of_the_replay_is_a_step_of_the_specification():
    replayed([trace(seed, changed=False) for seed in range(8)], _REFINED)


def test_a_long_piece_has_few_states():
    """Each record and each row may be five seconds late: there are ever so many orders."""
    long = next(traces_of(simulated(6, messages=60), least=1000, slack=SLACK))
    events = sum(map(len, long.threads.values()))
    text = replayed([long], CONFIGURATION)
    states = int(_STATES.findall(text)[-1].replace(",", ""))
    assert _WHOLE.search(text)
    assert states < 5 * events, f"{states} states for {events} events"
