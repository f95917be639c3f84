------------------------------- MODULE Trace -------------------------------
(***************************************************************************)
(* Is what a rehearsal recorded a behaviour of Crossfade? Each step below  *)
(* is a step of Crossfade's Next, bound to the next recorded event of one  *)
(* thread, or a step that nobody records: a reader reads, the group        *)
(* acknowledges, a request is answered from memory. What is asked is       *)
(* whether some order of such steps takes every event: docs/proof.md.      *)
(*                                                                         *)
(* A trace is a part of one conversation's life, from one quiet moment to  *)
(* another. Its threads are what the clients were told, the steps of the   *)
(* walk, the records of each log, the rows, and the places that the        *)
(* workers' group was seen at. Within a thread the order is known. Between *)
(* threads an event happens within lo and hi.                              *)
(***************************************************************************)
EXTENDS Crossfade, TLC

CONSTANTS
    Traces      \* Of each: its first phase, its threads, which messages a client was told, last copies.

VARIABLES
    trace,      \* The number of the trace that is replayed.
    data,       \* The trace itself: TLC would evaluate a constant at each use.
    taken       \* How many events of each thread have been taken.

Threads == 1..7
ANSWERS == 1
STEPS == 2
RECORDS == [old |-> 3, new |-> 4]
ROWS == 5

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
(* thread can be taken now, and the step that takes it.                     *)

Senders(event) == {phase \in present \intersect event.phases : Primary(phase) = event.log}
CanSend(i) ==
    /\ May(i, "original")
    /\ Event(i).q = 1 /\ Senders(Event(i)) # {} /\ After[Event(i).m] \subseteq acked
(* A message is acknowledged as soon as it may be, if a client was told so. *)
(* One that nobody was told of hinders less where it is not.                *)
SendRecorded(i) ==
    /\ LET event == Event(i)
           told == event.m \in data.told
           copied == data.copied[event.log][taken[i] + 1] > 0
       IN \E phase \in Senders(event) :
            /\ SendBy(event.m, phase)
            /\ Appended(event, Record(event.m, "original", 0))
            /\ CASE Mode(phase) = "sync" -> TRUE
                 [] Mode(phase) = "async" -> (copies' # copies) = (told \/ copied)
                 [] OTHER -> acked' = IF told THEN acked \union {event.m} ELSE acked
    /\ Take(i)

IsCopy(copy, event) ==
    /\ copy.log = event.log
    /\ copy.record.message = event.m
    /\ copy.record.index = event.index
    /\ copy.record.kind \in event.modes
CanCopy(i) ==
    /\ May(i, "copy")
    /\ Event(i).q = 1 /\ \E copy \in copies : IsCopy(copy, Event(i))
CopyRecorded(i) ==
    /\ \E copy \in copies :
        /\ IsCopy(copy, Event(i))
        /\ Make(copy)
        /\ Appended(Event(i), copy.record)
        /\ acked' = IF copy.record.kind = "sync"
                    THEN acked \union ({copy.record.message} \intersect data.told) ELSE acked
    /\ Take(i)

(* Whether a reader finds the next row's message at the head of its log.    *)
IsAtHead(event) ==
    /\ event.log \in Logs
    /\ HasMore(event.log, 1) /\ NextRecord(event.log, 1).message = event.m
    /\ \E phase \in present :
        Consumed(phase) = event.log \/ Allowed(phase, event.log, 1, 1)
CanRead == hands = {} /\ May(ROWS, "row") /\ IsAtHead(Event(ROWS))
(* A reader reads that one record: Read or TakeOver of a batch of one.      *)
ReadNext ==
    /\ hands' = {<<Event(ROWS).m>>}
    /\ UNCHANGED <<present, due, logs, place, rows, letters, gone, sent, acked, retried, copies>>
    /\ Unrecorded

CanInsert ==
    \E hand \in hands : \A n \in DOMAIN hand : Due(ROWS, Thread(ROWS)[taken[ROWS] + n])
InsertRecorded ==
    \E hand \in hands :
        /\ Write(hand)
        /\ taken' = [taken EXCEPT ![ROWS] = @ + Len(hand)]
        /\ UNCHANGED <<trace, data>>

CanBegin ==
    /\ May(STEPS, "begin")
    /\ present = {Event(STEPS).from} /\ Watermark(Event(STEPS).from, Event(STEPS).to)
BeginRecorded == BeginStep(Event(STEPS).from, Event(STEPS).to) /\ Take(STEPS)
CanEnd == May(STEPS, "end") /\ Event(STEPS).to \in present /\ present # {Event(STEPS).to}
EndRecorded == EndStep(Event(STEPS).to) /\ Take(STEPS)

(* Two kinds of events change nothing: somebody looked. A client saw an     *)
(* answer, so the message is acknowledged by then. The group was seen at a  *)
(* place, so it is there by then.                                           *)
IsTold(i) == May(i, "told") /\ Event(i).m \in acked
IsSeen(i) == May(i, "place") /\ place[Event(i).log][1] >= Event(i).count
Look(i) == UNCHANGED vars /\ Take(i)

-----------------------------------------------------------------------------
(* What nobody records.                                                     *)

(* A reader reads several records that become the next rows, and keeps them *)
(* while the step ends after which nobody might read them.                  *)
Comes(batch) ==
    /\ Len(batch) <= Len(Thread(ROWS)) - taken[ROWS]
    /\ \A n \in DOMAIN batch :
        LET event == Thread(ROWS)[taken[ROWS] + n]
        IN event.m = batch[n] /\ event.log = Event(ROWS).log
ReadAhead ==
    /\ hands = {} /\ Left(ROWS) /\ IsAtHead(Event(ROWS))
    /\ Read(Event(ROWS).log, 1) \/ TakeOver(Event(ROWS).log, 1)
    /\ \A batch \in hands' : Comes(batch)
    /\ Unrecorded

(* The next answer, or the next copy, comes of a request that appended      *)
(* nothing: a log remembered the message, or its row was there. A copy of   *)
(* either mode is one that backfill made.                                   *)
AnswerUnrecorded ==
    /\ May(ANSWERS, "told")
    /\ LET m == Event(ANSWERS).m IN
        IF m \in Range(rows) THEN FindRow(m)
        ELSE
            \/ \E phase \in present :
                /\ SendBy(m, phase) /\ UNCHANGED logs
                /\ <<acked, copies>>' # <<acked, copies>>
            \/ \E copy \in copies :
                /\ copy.record.message = m /\ Make(copy) /\ UNCHANGED logs
                /\ m \in acked'
    /\ Unrecorded
CopyUnrecorded(i) ==
    /\ May(i, "copy") /\ ~CanCopy(i)
    /\ LET m == Event(i).m IN
        \/ \E phase \in present : SendBy(m, phase) /\ UNCHANGED logs
        \/ Event(i).modes = {"sync", "async"} /\ Backfill(m)
        \/ \E record \in Range(logs[Event(i).log][1]) : MakeAgain(Event(i).log, record)
    /\ \E copy \in copies' : IsCopy(copy, Event(i))
    /\ Unrecorded

-----------------------------------------------------------------------------
(* The order of the search. Every step above is one of Crossfade's, so what *)
(* is found is allowed. And nothing that is allowed is missed, because what *)
(* is taken first hinders nothing that could have been taken before it:     *)
(* - An event that is taken lets others happen that had to wait for it. It  *)
(*   keeps none from its time.                                              *)
(* - A record, a copy, a row or the begin of a step takes nothing away that *)
(*   another event needs: logs, rows and what is acknowledged only grow,    *)
(*   and a step that begins leaves the phase that was there. A copy has its *)
(*   original in its log here, so "orphaned" stays true once it is.         *)
(* - The end of a step does: it takes a phase away. So it comes last. The   *)
(*   watermark that it sets has what is acknowledged by then and is no row: *)
(*   a copy that is not made yet keeps a message out. So where it sets one, *)
(*   each number of copies before it is tried.                              *)
(* - What nobody records is tried when no event can be taken without it.    *)
Ahead == {log \in Logs : MayAcknowledge(log, 1)}
Looks == {i \in {ANSWERS, 6, 7} : IsTold(i) \/ IsSeen(i)}
Sends == {i \in {3, 4} : CanSend(i)}
Copies == {i \in {3, 4} : CanCopy(i)}
SetsWatermark == Mirrored(Event(STEPS).to) /\ \E phase \in present : ~Mirrored(phase)

TraceInit ==
    /\ Init
    /\ trace \in DOMAIN Traces
    /\ data = Traces[trace]
    /\ present = {data.start}
    /\ taken = [i \in Threads |-> 0]

TraceNext ==
    IF Ahead # {} THEN Acknowledge(CHOOSE log \in Ahead : TRUE, 1) /\ Unrecorded
    ELSE IF Looks # {} THEN Look(CHOOSE i \in Looks : TRUE)
    ELSE IF CanInsert THEN InsertRecorded
    ELSE IF CanRead THEN ReadNext
    ELSE IF Sends # {} THEN SendRecorded(CHOOSE i \in Sends : TRUE)
    ELSE IF CanBegin THEN BeginRecorded
    ELSE IF Copies # {} THEN
        \/ CopyRecorded(CHOOSE i \in Copies : TRUE)
        \/ CanEnd /\ SetsWatermark /\ (EndRecorded \/ ReadAhead)
    ELSE
        \/ CanEnd /\ (EndRecorded \/ ReadAhead)
        \/ AnswerUnrecorded
        \/ \E i \in {3, 4} : CopyUnrecorded(i)

TraceSpec == TraceInit /\ [][TraceNext]_<<vars, trace, data, taken>>

(* What still matters of a state. The rest follows from what was taken, or  *)
(* is a copy that nobody saw being made, of a message that needs none.      *)
Awaited(copy) ==
    \/ data.copied[Other(copy.log)][copy.record.index] > taken[RECORDS[copy.log]]
    \/ copy.record.message \in data.told \ acked
Moment ==
    <<trace, taken, present, due, acked, hands, {copy \in copies : Awaited(copy)},
      [log \in Logs |-> SubSeq(logs[log][1], place[log][1] + 1, Len(logs[log][1]))]>>

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
