"""Reads that wait: records are fetched ahead of them, and served from memory."""
