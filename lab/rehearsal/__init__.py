"""The rehearsal: real servers, several processes, load, faults, and a checker of the outcome.

``crossfade migrate rehearse`` walks through every phase of the migration, forward and back. The
fault tests use the same load, history and checker.
"""
