"""Turn the records of claimed partitions into rows, isolate bad records, acknowledge.

``batch`` has the parts of a batch; ``recovery`` puts back rows that PostgreSQL lost.
"""
