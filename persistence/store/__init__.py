"""Write batches: one statement, each batch in the order of its log and under its own fence."""
