"""Write one batch: one statement, in the order of the log, fenced by the claim's epoch."""
