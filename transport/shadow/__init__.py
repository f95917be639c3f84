"""The shadow: a second log that gets a copy of every message, for a migration to that log.

``transport`` has the decorator of the primary, and explains how order is kept. ``mirror`` sends the
copies to the shadow.
"""
