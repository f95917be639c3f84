------------------------------- MODULE Trace -------------------------------
(***************************************************************************)
(* Is what a rehearsal recorded a behaviour of Crossfade? Each step below  *)
(* is a step of Crossfade's Next, bound to the next recorded event of one  *)
(* thread, or a step that nobody records: a position moves, a request is   *)
(* answered from memory. What is asked is whether some order of such steps *)
(* takes every event: docs/proof.md.                                       *)
(*                                                                         *)
(* A trace is a part of one conversation's life, from one quiet moment to  *)
(* another. Its threads are what the clients were told, the steps of the   *)
(* change, the records of each log, the rows, and the places that the      *)
(* positions were seen at. Within a thread the order is known. Between     *)
(* threads an event happens within lo and hi.                              *)
(*                                                                         *)
(* A trace begins with empty logs, as Init does: in a quiet moment all is  *)
(* settled, so positions may be at the ends of the logs. Marks are before  *)
(* these, the links before the last one are passed, and the last two lead  *)
(* to the same rows whichever comes first.                                 *)
(***************************************************************************)
EXTENDS Crossfade, TLC

CONSTANTS
    Traces      \* Of each: its first phase and its threads.

VARIABLES
    trace,      \* The number of the trace that is replayed.
    data,       \* The trace itself: TLC would evaluate a constant at each use.
    taken       \* How many events of each thread have been taken.

Threads == 1..7
ANSWERS == 1
STEPS == 2
RECORDS == {3, 4}
ROWS == 5
PLACES == {6, 7}

Thread(i) == data.threads[i]
Left(i) == taken[i] < Len(Thread(i))
Event(i) == Thread(i)[taken[i] + 1]

(* Nothing is left that had to happen before this event of thread i.        *)
Due(i, event) == \A j \in Threads \ {i} : Left(j) => Event(j).hi >= event.lo
May(i, what) == Left(i) /\ Event(i).what = what /\ Due(i, Event(i))
Take(i) == taken' = [taken EXCEPT ![i] = @ + 1] /\ UNCHANGED <<trace, data>>
Unrecorded == UNCHANGED <<trace, data, taken>>
Appended(event, record) ==
    logs' = [logs EXCEPT ![event.log][event.q] = Append(@, record)]

-----------------------------------------------------------------------------
(* What was recorded. Of each kind of event: whether the next one of its    *)
(* thread can be taken now, and the step that takes it. What may be         *)
(* acknowledged is, and a copy may always be made again: neither hinders.   *)

Senders(event) == {phase \in present \intersect event.phases : Primary(phase) = event.log}
CanSend(i) ==
    /\ May(i, "original")
    /\ Event(i).q = 1 /\ Senders(Event(i)) # {} /\ After[Event(i).m] \subseteq acked
SendRecorded(i) ==
    /\ LET m == Event(i).m
       IN \E phase \in Senders(Event(i)) :
            /\ SendBy(m, phase)
            /\ Appended(Event(i), Record(m, "original"))
            /\ Mode(phase) # "sync" => acked' = acked \union {m}
    /\ Take(i)

IsCopy(copy, event) ==
    /\ copy.log = event.log
    /\ copy.record.message = event.m
    /\ copy.record.kind \in event.modes
    /\ LET others == logs[Other(event.log)][1]
       IN event.index \in DOMAIN others /\ others[event.index].message = event.m
CanCopy(i) ==
    /\ May(i, "copy")
    /\ Event(i).q = 1 /\ \E copy \in copies : IsCopy(copy, Event(i))
CopyRecorded(i) ==
    /\ \E copy \in copies :
        /\ IsCopy(copy, Event(i))
        /\ Make(copy) /\ UNCHANGED copies
        /\ Appended(Event(i), copy.record)
        /\ copy.record.kind = "sync" => acked' = acked \union {copy.record.message}
    /\ Take(i)

(* One record at a time: a statement that inserts more does the same.       *)
CanInsert ==
    /\ May(ROWS, "row") /\ Event(ROWS).log \in Logs
    /\ LET log == Event(ROWS).log
           from == db.position[log][1]
       IN from < Bound(log, 1) /\ logs[log][1][from + 1].message = Event(ROWS).m
InsertRecorded ==
    /\ WorkOn(Event(ROWS).log, 1, 1)
    /\ Take(ROWS)

CanBegin == May(STEPS, "begin") /\ present = {Event(STEPS).from}
BeginRecorded == BeginStep(Event(STEPS).from, Event(STEPS).to) /\ Take(STEPS)
CanEnd == May(STEPS, "end")
EndRecorded == EndStep(Event(STEPS).to) /\ Take(STEPS)

(* Two kinds of events change nothing. A client saw an answer, so the       *)
(* message is acknowledged by then. A position was seen at a place, so it   *)
(* is there by then.                                                        *)
IsTold(i) == May(i, "told") /\ Event(i).m \in acked
IsSeen(i) == May(i, "place") /\ db.position[Event(i).log][1] >= Event(i).count
Look(i) == UNCHANGED vars /\ Take(i)

-----------------------------------------------------------------------------
(* What nobody records.                                                     *)

CanFollow(log) ==
    LET from == db.position[log][1]
    IN from < Len(logs[log][1]) /\ logs[log][1][from + 1].message \in Settled

(* The next answer, or the next copy, comes of a request that appended      *)
(* nothing: a log remembered the message, or its row was there. A copy of   *)
(* either mode is one that backfill made.                                   *)
AnswerUnrecorded ==
    /\ May(ANSWERS, "told")
    /\ LET m == Event(ANSWERS).m IN
        \/ FindRow(m)
        \/ \E phase \in present :
            /\ SendBy(m, phase) /\ UNCHANGED logs
            /\ <<acked, copies>>' # <<acked, copies>>
        \/ \E copy \in copies :
            /\ copy.record.message = m /\ Make(copy) /\ UNCHANGED <<logs, copies>>
            /\ acked' # acked
    /\ Unrecorded
CopyUnrecorded(i) ==
    /\ May(i, "copy") /\ ~CanCopy(i)
    /\ LET m == Event(i).m IN
        IF Event(i).modes = {"sync", "async"} THEN Backfill(m)
        ELSE \E phase \in present : SendBy(m, phase) /\ UNCHANGED logs
    /\ \E copy \in copies' : IsCopy(copy, Event(i))
    /\ Unrecorded

-----------------------------------------------------------------------------
(* The order of the search. Every step above is one of Crossfade's, so what *)
(* is found is allowed. And nothing that is allowed is missed: a step that  *)
(* is taken first takes nothing away from what could have come before it,   *)
(* and where one does, every order is tried.                                *)
(* - An event that is taken lets others happen that had to wait for it. It  *)
(*   keeps none from its time.                                              *)
(* - A record, a row, a position that moves, or the begin of a step takes   *)
(*   nothing away: logs, rows, positions and what is acknowledged only      *)
(*   grow, and a step that begins leaves the phase that was there.          *)
(* - But a record changes the mark that is set after it. So where its log's *)
(*   mark may be set before it, both are tried.                             *)
(* - The begin of a step that closes a log takes away the log's rows, and   *)
(*   the end of a step takes away a phase. They come after all that takes   *)
(*   nothing away.                                                          *)
(* - What nobody records is tried when nothing is left that takes nothing   *)
(*   away.                                                                  *)
Followed == {log \in Logs : CanFollow(log)}
Looks == {i \in {ANSWERS} \union PLACES : IsTold(i) \/ IsSeen(i)}
Appends == {i \in RECORDS : CanSend(i) \/ CanCopy(i)}
AppendRecorded(i) == IF Event(i).what = "original" THEN SendRecorded(i) ELSE CopyRecorded(i)

(* Whether the end of a step, the n-th event, sets a mark of this log.      *)
SetsMark(n, log) ==
    LET end == Thread(STEPS)[n]
        begin == Thread(STEPS)[n - 1]
    IN /\ end.what = "end" /\ Mirrored(end.to) /\ Primary(end.to) = log
       /\ Mirrored(begin.from) # Mirrored(begin.to)
MarkMayComeFirst(event) ==
    \E n \in (taken[STEPS] + 1)..Len(Thread(STEPS)) :
        event.hi >= Thread(STEPS)[n].lo /\ SetsMark(n, event.log)
Harmless == {i \in Appends : ~MarkMayComeFirst(Event(i))}
Closes == Mirrored(Event(STEPS).from) /\ ~Mirrored(Event(STEPS).to)

TraceInit ==
    /\ Init
    /\ trace \in DOMAIN Traces
    /\ data = Traces[trace]
    /\ present = {data.start}
    /\ taken = [i \in Threads |-> 0]

TraceNext ==
    IF Followed # {} THEN Follow(CHOOSE log \in Followed : TRUE, 1) /\ Unrecorded
    ELSE IF Looks # {} THEN Look(CHOOSE i \in Looks : TRUE)
    ELSE IF CanInsert THEN InsertRecorded
    ELSE IF CanBegin /\ ~Closes THEN BeginRecorded
    ELSE IF Harmless # {} THEN AppendRecorded(CHOOSE i \in Harmless : TRUE)
    ELSE
        \/ \E i \in Appends : AppendRecorded(i)
        \/ CanBegin /\ BeginRecorded
        \/ CanEnd /\ EndRecorded
        \/ AnswerUnrecorded
        \/ \E i \in RECORDS : CopyUnrecorded(i)

TraceSpec == TraceInit /\ [][TraceNext]_<<vars, trace, data, taken>>

(* What still matters of a state; the rest follows from what was taken. Of  *)
(* a link that is passed, the mark matters to what a row may answer.        *)
Matters ==
    <<trace, taken, db.position, copies, acked, {m \in sent \ acked : IsKept(m)},
      [i \in DOMAIN chain |->
        IF i < Len(chain) /\ IsPassed(chain[i]) THEN NoMark ELSE chain[i].mark]>>

-----------------------------------------------------------------------------
(* Not a constraint of the model: tells how far the trace has been taken,   *)
(* and leaves a trace alone whose end was reached.                          *)
Total == taken[1] + taken[2] + taken[3] + taken[4] + taken[5] + taken[6] + taken[7]
Complete == \A i \in Threads : ~Left(i)
Whole == 1000000000
Noted ==
    IF TLCGet(trace) = Whole THEN FALSE
    ELSE IF Complete THEN TLCSet(trace, Whole) /\ PrintT(<<"whole", trace>>)
    ELSE IF Total > TLCGet(trace) THEN TLCSet(trace, Total) /\ PrintT(<<"taken", trace, taken>>)
    ELSE TRUE
ASSUME \A i \in DOMAIN Traces : TLCSet(i, 0)

(* At the end the promises hold.                                            *)
Kept == Complete => InOrder /\ OnceOnly /\ NothingLost
=============================================================================
