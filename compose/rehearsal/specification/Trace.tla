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
    Traces,     \* Of each: the phase that it starts in, its threads, and which messages a client was told.
    Patient     \* Whether a reader may keep what it read, and read several records at once.

VARIABLES
    trace,      \* The number of the trace that is replayed.
    data,       \* The trace itself: TLC would evaluate a constant at each use.
    taken       \* How many events of each thread have been taken.

Threads == 1..7
ANSWERS == 1
STEPS == 2
RowThread == 5

Thread(i) == data.threads[i]
Left(i) == taken[i] < Len(Thread(i))
Event(i) == Thread(i)[taken[i] + 1]

(* Nothing is left that had to happen before the next event of thread i.    *)
Due(i, event) == \A j \in Threads \ {i} : Left(j) => Event(j).hi >= event.lo
May(i, what) == Left(i) /\ Event(i).what = what /\ Due(i, Event(i))
Take(i) == taken' = [taken EXCEPT ![i] = @ + 1] /\ UNCHANGED <<trace, data>>
Unrecorded == UNCHANGED <<trace, data, taken>>
Appended(event, record) ==
    logs' = [logs EXCEPT ![event.log][event.q] = Append(@, record)]

-----------------------------------------------------------------------------
(* What was recorded.                                                       *)

(* A message is acknowledged as soon as it may be, if it ever was.          *)
SendRecorded(i) ==
    /\ May(i, "original")
    /\ LET event == Event(i) IN
        \E phase \in present \intersect event.phases :
            /\ Primary(phase) = event.log
            /\ SendBy(event.m, phase)
            /\ Appended(event, Record(event.m, "original", 0))
            /\ CASE Mode(phase) = "sync" -> TRUE
                 [] Mode(phase) = "async" -> (copies' # copies) = (event.m \in data.told)
                 [] OTHER -> acked' = acked \union ({event.m} \intersect data.told)
    /\ Take(i)

IsCopy(copy, event) ==
    /\ copy.log = event.log
    /\ copy.record.message = event.m
    /\ copy.record.index = event.index
    /\ copy.record.kind \in event.modes

CopyRecorded(i) ==
    /\ May(i, "copy")
    /\ \E copy \in copies :
        /\ IsCopy(copy, Event(i))
        /\ Make(copy)
        /\ Appended(Event(i), copy.record)
        /\ copy.record.kind = "sync" /\ copy.record.message \in data.told
           => copy.record.message \in acked'
    /\ Take(i)

InsertRecorded ==
    /\ May(RowThread, "row")
    /\ \E hand \in hands :
        /\ Write(hand)
        /\ taken' = [taken EXCEPT ![RowThread] = @ + Len(hand)]
        /\ UNCHANGED <<trace, data>>
        /\ \A n \in DOMAIN hand :
            LET event == Thread(RowThread)[taken[RowThread] + n]
            IN event.m = hand[n] /\ Due(RowThread, event)

BeginRecorded ==
    /\ May(STEPS, "begin")
    /\ BeginStep(Event(STEPS).from, Event(STEPS).to)
    /\ Take(STEPS)
EndRecorded == May(STEPS, "end") /\ EndStep(Event(STEPS).to) /\ Take(STEPS)

(* Two kinds of events change nothing: somebody looked. A client saw an     *)
(* answer, so the message is acknowledged by then. The group was seen at a  *)
(* place, so it is there by then.                                           *)
IsTold(i) == May(i, "told") /\ Event(i).m \in acked
IsSeen(i) == May(i, "place") /\ place[Event(i).log][1] >= Event(i).count
Look(i) == (IsTold(i) \/ IsSeen(i)) /\ UNCHANGED vars /\ Take(i)

-----------------------------------------------------------------------------
(* What nobody records.                                                     *)

(* A reader reads what becomes rows next.                                   *)
Comes(batch) ==
    /\ Len(batch) <= Len(Thread(RowThread)) - taken[RowThread]
    /\ Patient \/ Len(batch) = 1
    /\ \A n \in DOMAIN batch :
        LET event == Thread(RowThread)[taken[RowThread] + n]
        IN event.m = batch[n] /\ event.log = Event(RowThread).log
ReadUnrecorded ==
    /\ hands = {}
    /\ Left(RowThread) /\ (Patient \/ Due(RowThread, Event(RowThread)))
    /\ Event(RowThread).log \in Logs
    /\ Read(Event(RowThread).log, 1) \/ TakeOver(Event(RowThread).log, 1)
    /\ \A batch \in hands' : Comes(batch)
    /\ Unrecorded

(* The next answer, or the next copy, comes of a request that appended      *)
(* nothing: a log remembered the message, or its row was there. A copy of   *)
(* either mode is one that backfill made. One that stands already is made   *)
(* again where its answer was lost; to the log it is as backfill's.         *)
AnswerUnrecorded ==
    /\ May(ANSWERS, "told")
    /\ LET m == Event(ANSWERS).m IN
        /\ m \notin acked
        /\ \/ FindRow(m)
           \/ \E phase \in present : SendBy(m, phase) /\ UNCHANGED logs
           \/ \E copy \in copies :
                copy.record.message = m /\ Make(copy) /\ UNCHANGED logs
        /\ <<acked, copies>>' # <<acked, copies>>
    /\ Unrecorded
StandsAlready(event) ==
    \E q \in Partitions(event.log) : \E record \in Range(logs[event.log][q]) :
        IsCopy([log |-> event.log, record |-> record], event)
CopyUnrecorded(i) ==
    /\ May(i, "copy")
    /\ ~\E copy \in copies : IsCopy(copy, Event(i))
    /\ LET m == Event(i).m IN
        \/ \E phase \in present : SendBy(m, phase) /\ UNCHANGED logs
        \/ Event(i).modes = {"sync", "async"} /\ Backfill(m)
        \/ Event(i).modes = {"async"} /\ StandsAlready(Event(i)) /\ Backfill(m)
    /\ \E copy \in copies' : IsCopy(copy, Event(i))
    /\ Unrecorded

-----------------------------------------------------------------------------
(* What may be acknowledged is, and what was seen is taken, before all      *)
(* else: neither hinders anything. (Crossfade's Eager does the first, too.) *)
Ahead == {log \in Logs : MayAcknowledge(log, 1)}
Looks == {i \in {ANSWERS, 6, 7} : IsTold(i) \/ IsSeen(i)}

TraceInit ==
    /\ Init
    /\ trace \in DOMAIN Traces
    /\ data = Traces[trace]
    /\ present = {data.start}
    /\ taken = [i \in Threads |-> 0]

TraceNext ==
    IF Ahead # {} THEN Acknowledge(CHOOSE log \in Ahead : TRUE, 1) /\ Unrecorded
    ELSE IF Looks # {} THEN Look(CHOOSE i \in Looks : TRUE)
    ELSE IF ~Patient /\ hands # {} THEN InsertRecorded
    ELSE
        \/ \E i \in {3, 4} : SendRecorded(i) \/ CopyRecorded(i) \/ CopyUnrecorded(i)
        \/ InsertRecorded \/ BeginRecorded \/ EndRecorded
        \/ ReadUnrecorded \/ AnswerUnrecorded

TraceSpec == TraceInit /\ [][TraceNext]_<<vars, trace, data, taken>>
Moment == <<vars, trace, taken>>

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
