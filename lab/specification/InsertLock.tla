----------------------------- MODULE InsertLock -----------------------------
(***************************************************************************)
(* Why all inserts of a conversation must share a lock, whichever log they *)
(* come from. A client reads the conversation page by page: it remembers   *)
(* the seq of the last row that it has seen, and asks for what is greater. *)
(* A row that is committed later with a smaller seq is never seen.         *)
(*                                                                         *)
(* Messages 1 and 2 were sent at once, so the two logs have them in        *)
(* different orders. One reader works on each log, one record a statement. *)
(***************************************************************************)
EXTENDS Naturals, Sequences

CONSTANT Locks   \* Locks[reader]: what its statement locks before it draws a seq.

VARIABLES next, open, seq, table, cursor, seen
vars == <<next, open, seq, table, cursor, seen>>

Readers == {"old", "new"}
Log(reader) == IF reader = "old" THEN <<1, 2>> ELSE <<2, 1>>
Nothing == [message |-> 0, seq |-> 0]
Committed == {row.message : row \in table}

Init ==
    /\ next = [reader \in Readers |-> 1]
    /\ open = [reader \in Readers |-> Nothing]
    /\ seq = 0 /\ table = {} /\ cursor = 0 /\ seen = {}

(* A statement begins: it has its locks, and draws a seq. A message that     *)
(* another open statement inserts is waited for: its key is unique.          *)
Begin(reader) ==
    /\ open[reader] = Nothing /\ next[reader] <= 2
    /\ LET m == Log(reader)[next[reader]] IN
        /\ m \notin Committed
        /\ \A other \in Readers : open[other] # Nothing =>
            Locks[other] \intersect Locks[reader] = {} /\ open[other].message # m
        /\ open' = [open EXCEPT ![reader] = [message |-> m, seq |-> seq + 1]]
    /\ seq' = seq + 1
    /\ UNCHANGED <<next, table, cursor, seen>>

Commit(reader) ==
    /\ open[reader] # Nothing
    /\ table' = table \union {open[reader]}
    /\ open' = [open EXCEPT ![reader] = Nothing]
    /\ next' = [next EXCEPT ![reader] = @ + 1]
    /\ UNCHANGED <<seq, cursor, seen>>

Skip(reader) ==
    /\ open[reader] = Nothing /\ next[reader] <= 2
    /\ Log(reader)[next[reader]] \in Committed
    /\ next' = [next EXCEPT ![reader] = @ + 1]
    /\ UNCHANGED <<open, seq, table, cursor, seen>>

(* A client asks for the next page.                                         *)
ReadPage ==
    /\ \E row \in table : row.seq > cursor
    /\ LET page == {row \in table : row.seq > cursor}
       IN /\ seen' = seen \union page
          /\ cursor' = CHOOSE last \in {row.seq : row \in page} :
                \A row \in page : row.seq <= last
    /\ UNCHANGED <<next, open, seq, table>>

Next == ReadPage \/ \E reader \in Readers : Begin(reader) \/ Commit(reader) \/ Skip(reader)
Spec == Init /\ [][Next]_vars

(* Every row that a page has passed was seen.                               *)
NoRowSkipped == \A row \in table : row.seq <= cursor => row \in seen
=============================================================================
