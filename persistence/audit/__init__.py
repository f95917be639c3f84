"""Compare rows with a log, report differences, and repair them on request.

It reads whole tables and whole logs. Nothing else depends on it.
"""
