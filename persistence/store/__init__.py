"""Write batches in one statement, each in the order of its log and under its own fence."""
