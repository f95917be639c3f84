"""Turn the records of owned partitions into rows, and isolate bad records.

``batch`` has the parts of a batch.
"""
