"""Statements that only read: a message, a conversation, its history, searches."""
