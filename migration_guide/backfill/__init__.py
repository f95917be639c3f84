"""Backfill: copy records that one log lacks from another. Start at ``run``.

It may use ``migration_guide.parity``, which finds the missing records, and no other room.
"""
