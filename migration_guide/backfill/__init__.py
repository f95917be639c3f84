"""Backfill: give one log what another has and it lacks. See :mod:`migration_guide.backfill.run`."""
