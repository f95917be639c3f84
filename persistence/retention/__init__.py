"""Retention: erasure on request, and the archive of old rows.

Either way a tombstone stays, so that the message's id never becomes a row again.
"""
