"""The operator's console: what it knows, apart from how it is served. Nothing here needs FastAPI.

The terminal (``crossfade status``, ``tail``, ``message``) tells the same from the same parts.
"""
