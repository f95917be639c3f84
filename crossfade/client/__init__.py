"""The Python client. Import it from :mod:`crossfade`.

:mod:`~crossfade.client.operations` has each operation as a generator that yields requests and
pauses and is sent what came of them. It does no I/O: the synchronous and the asynchronous client
carry out the same generators.
"""
