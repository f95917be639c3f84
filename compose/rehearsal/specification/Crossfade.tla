----------------------------- MODULE Crossfade -----------------------------
(***************************************************************************)
(* The change of log under live traffic: two logs, one table, processes    *)
(* that are restarted one by one with the settings of the next phase.      *)
(* docs/order.md argues in words that no conversation is reordered and no  *)
(* acknowledged message is lost. Here a machine checks it: docs/proof.md.  *)
(*                                                                         *)
(* The model allows more than the service does:                            *)
(* - Time does not occur. Where the service waits (for a stall, for the    *)
(*   age of a record), the model may act at any moment.                    *)
(* - Nobody owns a partition. Any number of readers may read it at once,   *)
(*   and each may insert what it read at any later moment, or never. So    *)
(*   leases, fences, crashed workers and workers that freeze and wake are  *)
(*   all among the behaviours, and the order can't depend on a fence.      *)
(* - A process that is gone may still make the copies it had to make.      *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    Messages,   \* Numbers from 1.
    After,      \* After[m]: those of its conversation acknowledged before m is first sent.
    Count,      \* Count[log]: how many partitions it has.
    Home,       \* Home[log][m]: the partition of m's conversation, a number from 1.
    Starts,     \* Phases that a walk may begin in, with empty logs.
    Retries,    \* How often clients send a message again, or backfill copies one, in all.
    Poison,     \* Messages that no reader can persist. They become dead letters.
    Broken      \* The assumption, gate or rule that is left out; "none".

VARIABLES
    present,    \* The phases that processes run: one, or two during a rolling restart.
    due,        \* What stood below the watermark and is not settled.
    logs,       \* logs[log][partition]: its records, in order.
    place,      \* The workers' position in each partition.
    rows,       \* The table, in the order of seq.
    letters,    \* Messages that are dead letters.
    gone,       \* Messages whose row was taken back (only where A5 is broken).
    sent,       \* Messages that a client has sent.
    acked,      \* Messages that were acknowledged to a client.
    retried,    \* How often clients sent a message again, or backfill copied one.
    copies,     \* Copies that some process still has to make.
    hands       \* Batches that some reader has in hand.

vars == <<present, due, logs, place, rows, letters, gone, sent, acked, retried, copies, hands>>

-----------------------------------------------------------------------------
(* What the settings of a phase mean (migration_guide/choice.py).           *)

Phases == 0..5
Logs == {"old", "new"}
Other(log) == IF log = "old" THEN "new" ELSE "old"
Primary(phase) == IF phase <= 3 THEN "old" ELSE "new"
Consumed(phase) == IF phase <= 2 THEN "old" ELSE "new"
Mode(phase) == CASE phase = 1 -> "async" [] phase \in 2..4 -> "sync" [] OTHER -> "none"
Partitions(log) == 1..Count[log]

-----------------------------------------------------------------------------
Range(seq) == {seq[i] : i \in DOMAIN seq}
Settled == (Range(rows) \union letters) \ gone
HasMore(log, q) == place[log][q] < Len(logs[log][q])
NextRecord(log, q) == logs[log][q][place[log][q] + 1]
Unread(log, q, n) == SubSeq(logs[log][q], place[log][q] + 1, place[log][q] + n)

(* A record names its message, whether it is an original or a copy, and for *)
(* a copy the place of its original in the other log.                       *)
Record(m, kind, index) == [message |-> m, kind |-> kind, index |-> index]

(* Where a message stands first in its partition of a log; 0: nowhere.      *)
Stands(log, m) ==
    LET held == {i \in DOMAIN logs[log][Home[log][m]] : logs[log][Home[log][m]][i].message = m}
    IN IF held = {} THEN 0 ELSE CHOOSE i \in held : \A j \in held : i <= j

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
(* Where the original of a copy in partition q is looked up.                *)
OriginHome(log, q, m) ==
    IF Broken = "orphan looked up by its own partition"
    THEN ((q - 1) % Count[Other(log)]) + 1 ELSE Home[Other(log)][m]

-----------------------------------------------------------------------------
Init ==
    /\ present \in {{start} : start \in Starts}
    /\ logs = [log \in Logs |-> [q \in Partitions(log) |-> <<>>]]
    /\ place = [log \in Logs |-> [q \in Partitions(log) |-> 0]]
    /\ rows = <<>> /\ retried = 0
    /\ due = {} /\ letters = {} /\ gone = {} /\ sent = {} /\ acked = {}
    /\ copies = {} /\ hands = {}

-----------------------------------------------------------------------------
(* Ingress.                                                                 *)

(* A client sends a message, for the first time or again, and a process     *)
(* appends it to its primary. A log that remembers a repeat may append it   *)
(* once more all the same: memories end. A process may die before it        *)
(* answers; its client may send the message again.                          *)
SendBy(m, phase) ==
    /\ After[m] \subseteq acked
    /\ m \notin sent \/ retried < Retries
    /\ sent' = sent \union {m}
    /\ retried' = IF m \in sent THEN retried + 1 ELSE retried
    /\ LET log == Primary(phase)
           Made(index) == [log |-> Other(log), record |-> Record(m, Mode(phase), index)]
           Answered(index, appended) ==
               CASE Mode(phase) = "sync" ->
                       /\ copies' = copies \union {Made(index)}
                       /\ acked' = IF Broken = "A1" THEN acked \union {m} ELSE acked
                 [] Mode(phase) = "async" /\ appended ->
                       \/ copies' = copies \union {Made(index)} /\ acked' = acked \union {m}
                       \/ UNCHANGED <<copies, acked>>
                 [] OTHER ->
                       /\ acked' \in {acked, acked \union {m}}
                       /\ UNCHANGED copies
       IN \/ \E q \in Homes(log, m) :
               /\ logs' = [logs EXCEPT ![log][q] = Append(@, Record(m, "original", 0))]
               /\ Answered(Len(logs[log][q]) + 1, TRUE)
          \/ /\ Stands(log, m) > 0
             /\ Answered(Stands(log, m), FALSE)
             /\ UNCHANGED logs
    /\ UNCHANGED <<present, due, place, rows, letters, gone, hands>>
Send(m) == \E phase \in present : SendBy(m, phase)

(* A copy is made, in any order. After a synchronous one the client is      *)
(* answered, unless it has given up or the process is gone.                 *)
Make(copy) ==
    LET m == copy.record.message IN
    /\ copies' = copies \ {copy}
    /\ \/ logs' = [logs EXCEPT ![copy.log][CopyHome(copy.log, m)] = Append(@, copy.record)]
       \/ Stands(copy.log, m) > 0 /\ UNCHANGED logs
    /\ acked' \in IF copy.record.kind = "sync" THEN {acked, acked \union {m}} ELSE {acked}
    /\ UNCHANGED <<present, due, place, rows, letters, gone, sent, retried, hands>>
MakeCopy == \E copy \in copies : Make(copy)

(* Backfill finds an original in the primary and copies it to the shadow,   *)
(* whether or not a copy is there.                                          *)
Backfill(m) ==
    /\ retried < Retries
    /\ retried' = retried + 1
    /\ \E phase \in present :
        /\ Mode(phase) # "none"
        /\ LET log == Primary(phase)
               records == logs[log][Home[log][m]]
           IN \E i \in DOMAIN records :
                /\ records[i].message = m /\ records[i].kind = "original"
                /\ copies' = copies \union {[log |-> Other(log), record |-> Record(m, "async", i)]}
    /\ UNCHANGED <<present, due, logs, place, rows, letters, gone, sent, acked, hands>>

(* A log has appended a copy, and its answer was lost: its process makes    *)
(* the copy again.                                                          *)
MakeAgain(log, record) ==
    /\ retried < Retries
    /\ retried' = retried + 1
    /\ record.kind # "original"
    /\ copies' = copies \union {[log |-> log, record |-> record]}
    /\ UNCHANGED <<present, due, logs, place, rows, letters, gone, sent, acked, hands>>

(* A client sends a message again, and the ingress finds its row.           *)
FindRow(m) ==
    /\ m \in sent /\ m \in Range(rows) /\ m \notin acked
    /\ acked' = acked \union {m}
    /\ UNCHANGED <<present, due, logs, place, rows, letters, gone, sent, retried, copies, hands>>

-----------------------------------------------------------------------------
(* Readers.                                                                 *)

(* What is left of the next n records for who reads them.                   *)
Batch(log, q, n) ==
    Fresh([i \in 1..n |-> Unread(log, q, n)[i].message],
          IF Broken = "unique key" THEN {} ELSE Settled)
Lengths(log, q) == 1..(Len(logs[log][q]) - place[log][q])

(* A worker reads a batch, from the group's place on.                       *)
Readable(log, q) ==
    IF \E phase \in present : Consumed(phase) = log
    THEN {Batch(log, q, n) : n \in Lengths(log, q)} \ {<<>>} ELSE {}

(* Why a standby may persist a record of a log that its process does not    *)
(* consume (persistence/standby/takeover_rules.py, with the same names).    *)
Passed(log, q) == place[log][q] = Len(logs[log][q])
Why(phase, log, q, record) ==
    LET other == Other(log)
        mirrored == phase = 3 /\ log = "old"
        origin == OriginHome(log, q, record.message)
        stalled == mirrored /\ record.kind \in {"original", "sync"}
        unshadowed == ~mirrored /\ record.kind = "original"
        orphaned == record.kind # "original"
                    /\ (place[other][origin] >= record.index \/ Passed(other, origin))
    IN stalled \/ unshadowed \/ orphaned \/ Broken = "A6 rules"
Allowed(phase, log, q, n) ==
    \A record \in Range(Unread(log, q, n)) :
        record.message \in Settled \/ Why(phase, log, q, record)
Takeable(log, q) ==
    UNION {{Batch(log, q, n) : n \in {k \in Lengths(log, q) : Allowed(phase, log, q, k)}} :
           phase \in {other \in present : Consumed(other) # log}} \ {<<>>}

Read(log, q) ==
    /\ \E batch \in Readable(log, q) : hands' = hands \union {batch}
    /\ UNCHANGED <<present, due, logs, place, rows, letters, gone, sent, acked, retried, copies>>
TakeOver(log, q) ==
    /\ \E batch \in Takeable(log, q) : hands' = hands \union {batch}
    /\ UNCHANGED <<present, due, logs, place, rows, letters, gone, sent, acked, retried, copies>>

(* A reader inserts a batch, as a whole and in order. What it can't persist *)
(* becomes a dead letter. What became settled since it read is left out.    *)
Write(hand) ==
    LET batch == IF Broken = "A4" THEN Reversed(hand) ELSE hand
        Persisted(m) == m \notin Poison
        written == SelectSeq(batch, Persisted)
    IN
    /\ rows' = rows \o written
    /\ letters' = letters \union (Range(hand) \ Range(written))
    /\ gone' = gone \ Range(hand)
    /\ due' = due \ Range(hand)
    /\ hands' = (IF Broken = "unique key" THEN hands \ {hand}
                 ELSE {Fresh(other, Range(hand)) : other \in hands}) \ {<<>>}
    /\ UNCHANGED <<present, logs, place, sent, acked, retried, copies>>
Insert == \E hand \in hands : Write(hand)

(* A worker acknowledges what it persisted, and a standby what it finds to  *)
(* be settled: in order, up to the first record that is not.                *)
MayAcknowledge(log, q) == HasMore(log, q) /\ NextRecord(log, q).message \in Settled
Acknowledge(log, q) ==
    /\ \/ MayAcknowledge(log, q)
       \/ (HasMore(log, q) /\ Broken = "A3" /\ \E phase \in present : Consumed(phase) # log)
    /\ place' = [place EXCEPT ![log][q] = @ + 1]
    /\ UNCHANGED <<present, due, logs, rows, letters, gone, sent, acked, retried, copies, hands>>

-----------------------------------------------------------------------------
(* The walk. An operator begins a step when its gates are green, and        *)
(* restarts the processes one by one. Halfway, the step may be turned back. *)
(* Of the gates of migration_guide/phases.py these two guard the order;     *)
(* the others tell an operator earlier what is wrong.                       *)

Mirrored(phase) == Mode(phase) = "sync"
Watermark(from, to) ==
    \/ <<from, to>> \notin {<<2, 3>>, <<4, 3>>, <<3, 2>>}
    \/ due = {}
    \/ (Broken = "gate of 2 to 3" /\ <<from, to>> = <<2, 3>>)
    \/ (Broken = "gate of 4 to 3" /\ <<from, to>> = <<4, 3>>)
    \/ (Broken = "gate of 3 to 2" /\ <<from, to>> = <<3, 2>>)

BeginStep(from, to) ==
    /\ to = from + 1 \/ from = to + 1
    /\ \/ present = {from}
       \/ (Broken = "gate of processes" /\ from \in present /\ to \notin present)
    /\ Watermark(from, to)
    /\ present' = present \union {to}
    /\ UNCHANGED <<due, logs, place, rows, letters, gone, sent, acked, retried, copies, hands>>

EndStep(to) ==
    /\ to \in present /\ present # {to}
    /\ present' = {to}
    /\ due' = IF Mirrored(to) /\ \E phase \in present : ~Mirrored(phase)
              THEN acked \ Settled ELSE due
    /\ UNCHANGED <<logs, place, rows, letters, gone, sent, acked, retried, copies, hands>>

-----------------------------------------------------------------------------
(* Faults. The first is harmless; the others break an assumption.           *)

SetBack(log, q) ==
    /\ \E to \in 0..place[log][q] : to # place[log][q] /\ place' = [place EXCEPT ![log][q] = to]
    /\ UNCHANGED <<present, due, logs, rows, letters, gone, sent, acked, retried, copies, hands>>

LoseTail(q) ==
    /\ Broken = "A6 log" /\ logs["old"][q] # <<>>
    /\ LET left == Len(logs["old"][q]) - 1
       IN /\ logs' = [logs EXCEPT !["old"][q] = SubSeq(@, 1, left)]
          /\ place' = [place EXCEPT !["old"][q] = IF @ > left THEN left ELSE @]
    /\ UNCHANGED <<present, due, rows, letters, gone, sent, acked, retried, copies, hands>>

TakeBack(m) ==
    /\ Broken = "A5" /\ m \in Settled
    /\ gone' = gone \union {m}
    /\ UNCHANGED <<present, due, logs, place, rows, letters, sent, acked, retried, copies, hands>>

-----------------------------------------------------------------------------
Next ==
    \/ \E m \in Messages : Send(m) \/ Backfill(m) \/ FindRow(m) \/ TakeBack(m)
    \/ MakeCopy
    \/ Insert
    \/ \E log \in Logs : \E q \in Partitions(log) :
        \/ Read(log, q) \/ TakeOver(log, q) \/ Acknowledge(log, q) \/ SetBack(log, q)
        \/ \E record \in Range(logs[log][q]) : MakeAgain(log, record)
    \/ \E q \in Partitions("old") : LoseTail(q)
    \/ \E from, to \in Phases : BeginStep(from, to)
    \/ \E to \in Phases : EndStep(to)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* Two reductions. Eager: a batch in hand hinders nothing, and a place that *)
(* is further only lets an orphan go earlier. So what can be acknowledged   *)
(* or taken is, before anything else happens, and no place is set back.     *)
Eager ==
    LET ahead == \E log \in Logs : \E q \in Partitions(log) :
            \/ MayAcknowledge(log, q)
            \/ ~(Readable(log, q) \union Takeable(log, q) \subseteq hands)
    IN /\ ahead => (place' # place \/ (hands' # hands /\ rows' = rows /\ letters' = letters))
       /\ \A log \in Logs : \A q \in Partitions(log) : place'[log][q] >= place[log][q]

(* Future: what still matters of a state, which is where the messages are   *)
(* that are not settled, and which copies may still come of them. States    *)
(* that agree in it have the same future, as far as the promises go. A copy *)
(* is told from another by how many of its original's log wait before it.   *)
IsUnsettled(record) == record.message \notin Settled
Waiting(log, q, through) == SelectSeq(SubSeq(logs[log][q], place[log][q] + 1, through), IsUnsettled)
Seen(log, record) ==
    [message |-> record.message, kind |-> record.kind,
     index |-> Len(Waiting(Other(log), Home[Other(log)][record.message], record.index))]
Future ==
    <<present, due, rows, letters, sent, acked, retried, hands,
      [log \in Logs |-> [q \in Partitions(log) |->
        LET waiting == Waiting(log, q, Len(logs[log][q]))
        IN [i \in DOMAIN waiting |-> Seen(log, waiting[i])]]],
      {[log |-> copy.log, record |-> Seen(copy.log, copy.record)] :
        copy \in {one \in copies : one.record.message \notin Settled \intersect acked}}>>

(* Nothing is orphaned while no log loses a record.                         *)
NoOrphan ==
    \A log \in Logs : \A q \in Partitions(log) : \A i \in DOMAIN logs[log][q] :
        LET record == logs[log][q][i]
        IN record.kind # "original" /\ IsUnsettled(record)
           => place[Other(log)][Home[Other(log)][record.message]] < record.index

(* Not a promise: that this is violated shows that the model is not empty.  *)
(* Both messages are rows, the new log has one of them as a copy and the    *)
(* other as an original, and the walk has come back to phase 0.             *)
NeverThereAndBack ==
    ~(/\ present = {0} /\ rows = <<1, 2>>
      /\ \E q \in Partitions("new") : \E i, j \in DOMAIN logs["new"][q] :
            logs["new"][q][i].kind = "sync" /\ logs["new"][q][j].kind = "original")

(* Promise 3. A message that was acknowledged before another one of its     *)
(* conversation was sent has its row before that one's.                     *)
InOrder ==
    \A i \in DOMAIN rows : \A m \in After[rows[i]] :
        m \in letters \/ (\E j \in 1..(i - 1) : rows[j] = m)

(* Promise 2. A message has one row at most.                                *)
OnceOnly == \A i, j \in DOMAIN rows : rows[i] = rows[j] => i = j

(* Promise 1. What is acknowledged and not settled stands unread in a log,  *)
(* and once the step is complete there is a reader that may persist it.     *)
NothingLost ==
    \A m \in acked \ Settled : \E log \in Logs : \E q \in Partitions(log) :
        \E i \in (place[log][q] + 1)..Len(logs[log][q]) :
            /\ logs[log][q][i].message = m
            /\ \A phase \in present : present = {phase} =>
                Consumed(phase) = log \/ Why(phase, log, q, logs[log][q][i])
=============================================================================
