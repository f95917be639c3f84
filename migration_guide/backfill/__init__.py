"""Backfill: copy into one log what it lacks and another has. Start at :mod:`.run`.

It may use :mod:`migration_guide.parity`, which finds what is missing, and no other room.
"""
