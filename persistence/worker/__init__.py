"""Read claimed partitions, store batches, isolate records at fault, acknowledge.

Two rooms: ``batch`` has the parts of a batch, and ``recovery`` puts back what PostgreSQL lost.
"""
