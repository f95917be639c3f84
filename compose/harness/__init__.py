"""A load on real processes that records what each client was told, and a checker of the outcome.

The rehearsal runs on it, and so do the tests of faults: production code that tests use as theirs.
It may touch the processes of the service (``compose.local``) and nothing inside them.
"""
