"""Dead letters: copied from the log into a table, listed, redriven, discarded."""
