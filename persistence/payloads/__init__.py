"""Payloads: content that is kept in an object store, and its key in the message."""
