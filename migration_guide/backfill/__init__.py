"""Backfill: copy records that one log lacks from another. Start at :mod:`.run`.

It may use :mod:`migration_guide.parity`, which finds what is missing, and no other room.
"""
