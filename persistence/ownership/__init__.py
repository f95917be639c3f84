"""Decide in PostgreSQL which process works on which partition of a log.

``fences`` has the SQL, ``partition_owner`` the loop that takes and gives back partitions.
"""
