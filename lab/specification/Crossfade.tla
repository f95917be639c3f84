----------------------------- MODULE Crossfade -----------------------------
(***************************************************************************)
(* The change of log under live traffic: two logs, one table, processes    *)
(* that are restarted one by one with the settings of the next phase.      *)
(* docs/order.md argues in words that no conversation is reordered and no  *)
(* acknowledged message is lost. Here a machine checks it: docs/proof.md.  *)
(*                                                                         *)
(* PostgreSQL has one position per partition. One statement inserts the    *)
(* rows of a batch and moves the position, if it is where the batch begins.*)
(*                                                                         *)
(* The chain says in which order the logs are read: "old up to this mark,  *)
(* then new". A log is whole while every process writes to it what it      *)
(* acknowledges. In the middle of a change both logs are whole, and        *)
(* workers insert from both.                                               *)
(*                                                                         *)
(* The model allows more than the service does:                            *)
(* - Time does not occur, and partitions have no owners. Any process may   *)
(*   insert the next batch of any partition, of any length, at any moment. *)
(* - PostgreSQL may go back to any earlier moment. Rows, dead letters and  *)
(*   positions go back together.                                           *)
(* - A process that is gone may still make the copies it had to make.      *)
(***************************************************************************)
EXTENDS Naturals, Sequences

CONSTANTS
    Messages,   \* Numbers from 1.
    After,      \* After[m]: those of its conversation acknowledged before m is first sent.
    Count,      \* Count[log]: how many partitions it has.
    Home,       \* Home[log][m]: the partition of m's conversation, a number from 1.
    Starts,     \* Phases that a change may begin in, with empty logs.
    Retries,    \* How often clients send a message again, or backfill copies one, in all.
    Losses,     \* How often PostgreSQL goes back to an earlier moment.
    Links,      \* How long the chain may become. It is not trimmed here.
    Poison,     \* Messages that no worker can insert. They become dead letters.
    Broken      \* The assumption or rule that is left out; "none".

VARIABLES
    present,    \* The phases that processes run: one, or two during a rolling restart.
    chain,      \* The order in which the logs are read: links [log, mark].
    whole,      \* The logs that have every message before its acknowledgement.
    logs,       \* logs[log][partition]: its records, in order.
    db,         \* PostgreSQL: rows in the order of seq, dead letters, positions.
    earlier,    \* An earlier moment of PostgreSQL, if one is remembered.
    lost,       \* How often PostgreSQL went back.
    sent,       \* Messages that a client has sent.
    acked,      \* Messages that were acknowledged to a client.
    retried,    \* How often clients sent a message again, or backfill copied one.
    copies,     \* Copies that some process still has to make.
    held        \* Batches that a suspended worker has read (only where positions are not compared).

vars == <<present, chain, whole, logs, db, earlier, lost, sent, acked, retried, copies, held>>

-----------------------------------------------------------------------------
(* What the settings of a phase mean (migration_guide/choice.py).           *)

Phases == 0..5
Logs == {"old", "new"}
Other(log) == IF log = "old" THEN "new" ELSE "old"
Primary(phase) == IF phase <= 3 THEN "old" ELSE "new"
Mode(phase) == CASE phase = 1 -> "async" [] phase \in 2..4 -> "sync" [] OTHER -> "none"
Partitions(log) == 1..Count[log]

Range(seq) == {seq[i] : i \in DOMAIN seq}
Last(seq) == seq[Len(seq)]
Front(seq) == SubSeq(seq, 1, Len(seq) - 1)

Settled == Range(db.rows) \union db.letters
Ends(log) == [q \in Partitions(log) |-> Len(logs[log][q])]
Record(m, kind) == [message |-> m, kind |-> kind]
IsIn(log, m) == \E i \in DOMAIN logs[log][Home[log][m]] : logs[log][Home[log][m]][i].message = m

(* Each message once, and only where it is not settled already.             *)
RECURSIVE Fresh(_, _)
Fresh(batch, settled) ==
    IF batch = <<>> THEN <<>>
    ELSE LET m == Head(batch)
         IN IF m \in settled THEN Fresh(Tail(batch), settled)
            ELSE <<m>> \o Fresh(Tail(batch), settled \union {m})

Reversed(batch) == [i \in DOMAIN batch |-> batch[Len(batch) + 1 - i]]

(* The partition that a message is appended to, and the one of its copy.    *)
Homes(log, m) == IF Broken = "count raised in place" THEN Partitions(log) ELSE {Home[log][m]}
CopyHome(log, m) ==
    IF Broken = "A2 home" THEN ((Home[Other(log)][m] - 1) % Count[log]) + 1 ELSE Home[log][m]

-----------------------------------------------------------------------------
(* The chain. Its last link has no mark: it is read to its end. The one     *)
(* before it is read beyond its mark only while its log is whole.           *)

NoMark == <<>>
Link(log, mark) == [log |-> log, mark |-> mark, passed |-> FALSE]

(* A link is passed when everything below its mark is settled. Each         *)
(* statement compares it again, since PostgreSQL may go back.               *)
IsPassed(link) ==
    \/ \A q \in Partitions(link.log) : db.position[link.log][q] >= link.mark[q]
    \/ Broken = "links passed for good" /\ link.passed
    \/ Broken = "links"
IsOpen(i) == \A j \in 1..(i - 1) : IsPassed(chain[j])
IsUnbounded(i) == i = Len(chain) \/ (i = Len(chain) - 1 /\ chain[i].log \in whole)

(* How far workers may insert from a partition.                             *)
Bounds(log, q) ==
    {IF IsUnbounded(i) THEN Len(logs[log][q]) ELSE chain[i].mark[q] :
     i \in {j \in DOMAIN chain : chain[j].log = log /\ IsOpen(j)}}
Bound(log, q) ==
    IF Broken = "whole" THEN Len(logs[log][q])
    ELSE IF Bounds(log, q) = {} THEN 0
    ELSE CHOOSE most \in Bounds(log, q) : \A other \in Bounds(log, q) : other <= most

(* From now on every process writes to both logs before it acknowledges.    *)
Marked ==
    LET base == Last(chain).log
        mark == IF Broken = "mark" THEN [q \in Partitions(base) |-> 0] ELSE Ends(base)
    IN Append(Append(Front(chain), Link(base, mark)), Link(Other(base), NoMark))

(* From now on some process does not write to this log.                     *)
Closed(log) ==
    IF Last(chain).log = log
    THEN Append(Front(Front(chain)), Link(Last(Front(chain)).log, NoMark))
    ELSE chain

-----------------------------------------------------------------------------
EmptyDb ==
    [rows |-> <<>>, letters |-> {},
     position |-> [log \in Logs |-> [q \in Partitions(log) |-> 0]]]

(* PostgreSQL may go back to any earlier moment, which is remembered as it  *)
(* is left. The chain does not go back: processes keep it in memory.        *)
NoMoment == [is |-> FALSE, db |-> EmptyDb, chain |-> <<>>, whole |-> {}]
Moment == IF Broken = "chain goes back"
          THEN [is |-> TRUE, db |-> db, chain |-> chain, whole |-> whole]
          ELSE [NoMoment EXCEPT !.is = TRUE, !.db = db]
Remembered == earlier' \in IF lost < Losses THEN {earlier, Moment} ELSE {earlier}
RememberedAtStep == IF Broken = "chain goes back" THEN Remembered ELSE UNCHANGED earlier

Init ==
    /\ \E start \in Starts :
        /\ present = {start}
        /\ IF Mode(start) = "sync"
           THEN /\ whole = Logs
                /\ chain = <<Link("old", [q \in Partitions("old") |-> 0]), Link("new", NoMark)>>
           ELSE whole = {Primary(start)} /\ chain = <<Link(Primary(start), NoMark)>>
    /\ logs = [log \in Logs |-> [q \in Partitions(log) |-> <<>>]]
    /\ db = EmptyDb /\ earlier = NoMoment
    /\ lost = 0 /\ retried = 0
    /\ sent = {} /\ acked = {} /\ copies = {} /\ held = {}

-----------------------------------------------------------------------------
(* Ingress.                                                                 *)

(* A client sends a message, for the first time or again, and a process     *)
(* appends it to its primary. A log that remembers a repeat may append it   *)
(* once more anyway: memories end. A process may die before it answers; its *)
(* client may send the message again.                                       *)
SendBy(m, phase) ==
    /\ After[m] \subseteq acked
    /\ m \notin sent \/ retried < Retries
    /\ sent' = sent \union {m}
    /\ retried' = IF m \in sent THEN retried + 1 ELSE retried
    /\ LET log == Primary(phase)
           copy == [log |-> Other(log), record |-> Record(m, Mode(phase))]
           Answered(appended) ==
               CASE Mode(phase) = "sync" ->
                       /\ copies' = copies \union {copy}
                       /\ acked' = IF Broken = "A1" THEN acked \union {m} ELSE acked
                 [] Mode(phase) = "async" /\ appended ->
                       \/ copies' = copies \union {copy} /\ acked' = acked \union {m}
                       \/ UNCHANGED <<copies, acked>>
                 [] OTHER ->
                       /\ acked' \in {acked, acked \union {m}}
                       /\ UNCHANGED copies
       IN \/ \E q \in Homes(log, m) :
               /\ logs' = [logs EXCEPT ![log][q] = Append(@, Record(m, "original"))]
               /\ Answered(TRUE)
          \/ /\ IsIn(log, m)
             /\ Answered(FALSE)
             /\ UNCHANGED logs
    /\ UNCHANGED <<present, chain, whole, db, earlier, lost, held>>
Send(m) == \E phase \in present : SendBy(m, phase)

(* A copy is made, in any order. Its answer may be lost: then it is made    *)
(* again. After a synchronous one the client is answered, unless it has     *)
(* given up or the process is gone.                                         *)
Make(copy) ==
    LET m == copy.record.message IN
    /\ \/ copies' = copies \ {copy} /\ UNCHANGED retried
       \/ retried < Retries /\ retried' = retried + 1 /\ UNCHANGED copies
    /\ \/ logs' = [logs EXCEPT ![copy.log][CopyHome(copy.log, m)] = Append(@, copy.record)]
       \/ IsIn(copy.log, m) /\ UNCHANGED logs
    /\ acked' \in IF copy.record.kind = "sync" THEN {acked, acked \union {m}} ELSE {acked}
    /\ UNCHANGED <<present, chain, whole, db, earlier, lost, sent, held>>
MakeCopy == \E copy \in copies : Make(copy)

(* Backfill finds a record in the primary and copies it to the shadow,      *)
(* whether or not a copy is there.                                          *)
Backfill(m) ==
    /\ retried < Retries
    /\ retried' = retried + 1
    /\ \E phase \in present :
        /\ Mode(phase) # "none" /\ IsIn(Primary(phase), m)
        /\ copies' = copies \union {[log |-> Other(Primary(phase)), record |-> Record(m, "async")]}
    /\ UNCHANGED <<present, chain, whole, logs, db, earlier, lost, sent, acked, held>>

(* A client sends a message again, and the ingress finds its row. That is   *)
(* an acknowledgement, so the message must be where a worker finds it if    *)
(* PostgreSQL loses the row: below a mark, or in the only log that is       *)
(* whole. Otherwise it is appended again (SendBy).                          *)
IsKept(m) ==
    \E i \in DOMAIN chain :
        LET log == chain[i].log
            records == logs[log][Home[log][m]]
        IN \E n \in DOMAIN records :
            /\ records[n].message = m
            /\ \/ i < Len(chain) /\ n <= chain[i].mark[Home[log][m]]
               \/ i = Len(chain) /\ whole = {log}
FindRow(m) ==
    /\ m \in sent /\ m \in Range(db.rows) /\ m \notin acked
    /\ IsKept(m) \/ Broken = "answers from rows"
    /\ acked' = acked \union {m}
    /\ UNCHANGED <<present, chain, whole, logs, db, earlier, lost, sent, retried, copies, held>>

-----------------------------------------------------------------------------
(* Workers.                                                                 *)

Batch(log, q, from, n) ==
    Fresh([i \in 1..n |-> logs[log][q][from + i].message],
          IF Broken = "unique key" THEN {} ELSE Settled)

(* One statement inserts the next records of a partition, as a whole and in *)
(* order, and moves its position. What can't be inserted becomes a dead     *)
(* letter.                                                                  *)
Insert(log, q, from, n) ==
    LET fresh == Batch(log, q, from, n)
        batch == IF Broken = "A4" THEN Reversed(fresh) ELSE fresh
        Insertable(m) == m \notin Poison
        inserted == SelectSeq(batch, Insertable)
    IN db' = [rows |-> db.rows \o inserted,
              letters |-> db.letters \union (Range(batch) \ Range(inserted)),
              position |-> [db.position EXCEPT ![log][q] = from + n]]

NotePassed == IF Broken = "links passed for good"
         THEN chain' = [i \in DOMAIN chain |-> [chain[i] EXCEPT !.passed =
                i < Len(chain) /\ (@ \/ \A q \in Partitions(chain[i].log) :
                    db'.position[chain[i].log][q] >= chain[i].mark[q])]]
         ELSE UNCHANGED chain

WorkOn(log, q, n) ==
    LET from == db.position[log][q] IN
    /\ from + n <= Bound(log, q) /\ Insert(log, q, from, n)
    /\ NotePassed /\ Remembered
    /\ UNCHANGED <<present, whole, logs, lost, sent, acked, retried, copies, held>>
Work(log, q) == \E n \in 1..Len(logs[log][q]) : WorkOn(log, q, n)

(* Where a worker may not insert, it moves the position over what is        *)
(* settled.                                                                 *)
Follow(log, q) ==
    LET from == db.position[log][q] IN
    /\ from < Len(logs[log][q])
    /\ logs[log][q][from + 1].message \in Settled \/ Broken = "A3"
    /\ db' = [db EXCEPT !.position[log][q] = from + 1]
    /\ NotePassed /\ Remembered
    /\ UNCHANGED <<present, whole, logs, lost, sent, acked, retried, copies, held>>

(* A worker that was suspended inserts what it had read, wherever the       *)
(* position is by now.                                                      *)
Read(log, q) ==
    /\ Broken = "position not compared"
    /\ LET from == db.position[log][q] IN
        \E n \in 1..(Bound(log, q) - from) : Bound(log, q) > from
            /\ held' = {[log |-> log, q |-> q, from |-> from, n |-> n]}
    /\ UNCHANGED <<present, chain, whole, logs, db, earlier, lost, sent, acked, retried, copies>>
InsertLate ==
    /\ \E batch \in held : Insert(batch.log, batch.q, batch.from, batch.n)
    /\ held' = {} /\ Remembered
    /\ UNCHANGED <<present, chain, whole, logs, lost, sent, acked, retried, copies>>

-----------------------------------------------------------------------------
(* The steps. An operator begins one when its gates are green, and restarts *)
(* the processes one by one. Halfway, the step may be turned back. The      *)
(* order needs one gate only: that every process is in a phase before the   *)
(* next one begins. The others tell an operator earlier what is wrong.      *)

Mirrored(phase) == Mode(phase) = "sync"
BeginStep(from, to) ==
    /\ to = from + 1 \/ from = to + 1
    /\ present = {from}
    /\ present' = present \union {to}
    /\ IF Mirrored(from) /\ ~Mirrored(to) /\ Broken # "closed"
       THEN LET log == Other(Primary(to)) IN whole' = {Other(log)} /\ chain' = Closed(log)
       ELSE UNCHANGED <<whole, chain>>
    /\ RememberedAtStep
    /\ UNCHANGED <<logs, db, lost, sent, acked, retried, copies, held>>

EndStep(to) ==
    /\ to \in present /\ present # {to}
    /\ \/ present' = {to}
       \/ Broken = "gate of processes" /\ UNCHANGED present
    /\ IF Mirrored(to) /\ whole # Logs
       THEN Len(chain) < Links /\ whole' = Logs /\ chain' = Marked
       ELSE UNCHANGED <<whole, chain>>
    /\ RememberedAtStep
    /\ UNCHANGED <<logs, db, lost, sent, acked, retried, copies, held>>

-----------------------------------------------------------------------------
(* Faults. The first is harmless; the second breaks an assumption.          *)

GoBack ==
    /\ lost < Losses /\ earlier.is
    /\ lost' = lost + 1
    /\ db' = IF Broken = "A5"
             THEN [earlier.db EXCEPT !.position = db.position] ELSE earlier.db
    /\ IF Broken = "chain goes back"
       THEN chain' = earlier.chain /\ whole' = earlier.whole
       ELSE UNCHANGED <<chain, whole>>
    /\ earlier' = NoMoment
    /\ UNCHANGED <<present, logs, sent, acked, retried, copies, held>>

LoseTail(q) ==
    /\ Broken = "A6" /\ logs["old"][q] # <<>>
    /\ LET left == Len(logs["old"][q]) - 1
       IN /\ logs' = [logs EXCEPT !["old"][q] = SubSeq(@, 1, left)]
          /\ db' = [db EXCEPT !.position["old"][q] = IF @ > left THEN left ELSE @]
    /\ UNCHANGED <<present, chain, whole, earlier, lost, sent, acked, retried, copies, held>>

-----------------------------------------------------------------------------
Next ==
    \/ \E m \in Messages : Send(m) \/ Backfill(m) \/ FindRow(m)
    \/ MakeCopy \/ InsertLate \/ GoBack
    \/ \E log \in Logs : \E q \in Partitions(log) : Work(log, q) \/ Follow(log, q) \/ Read(log, q)
    \/ \E q \in Partitions("old") : LoseTail(q)
    \/ \E from, to \in Phases : BeginStep(from, to)
    \/ \E to \in Phases : EndStep(to)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* Promise 3. A message that was acknowledged before another one of its     *)
(* conversation was sent has its row before that one's.                     *)
InOrder ==
    \A i \in DOMAIN db.rows : \A m \in After[db.rows[i]] :
        m \in db.letters \/ (\E j \in 1..(i - 1) : db.rows[j] = m)

(* Promise 2. A message has one row at most.                                *)
OnceOnly == \A i, j \in DOMAIN db.rows : db.rows[i] = db.rows[j] => i = j

(* Promise 1. What is acknowledged and not settled is behind the position   *)
(* of a log, and the chain leads a worker there.                            *)
NothingLost ==
    \A m \in acked \ Settled : \E i \in DOMAIN chain :
        \E q \in Partitions(chain[i].log) :
            \E n \in (db.position[chain[i].log][q] + 1)..Len(logs[chain[i].log][q]) :
                /\ logs[chain[i].log][q][n].message = m
                /\ IsUnbounded(i) \/ n <= chain[i].mark[q]

(* Not a promise: that it is violated shows that the model is not empty.    *)
NeverThereAndBack ==
    ~(/\ present = {0} /\ db.rows = <<1, 2>> /\ Len(chain) > 1
      /\ \E q \in Partitions("new") : \E i, j \in DOMAIN logs["new"][q] :
            logs["new"][q][i].kind = "sync" /\ logs["new"][q][j].kind = "original")
=============================================================================
