"""The Python client. Import it from ``crossfade``.

``operations.py`` has each operation as a generator: it yields requests and pauses, and is sent
their results. It does no I/O. The synchronous and the asynchronous client run the same generators.
"""
