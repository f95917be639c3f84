"""Compare rows with a log, report what is wrong, and repair it on request.

It reads whole tables and whole logs. Nothing else depends on it.
"""
