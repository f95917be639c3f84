"""The Python client. Import it from ``crossfade``.

``operations.py`` has each operation as a generator. A generator yields requests and pauses, gets
their results, and does no I/O. The synchronous and the asynchronous client run the same generators.
"""
