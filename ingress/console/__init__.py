"""The operator's console: its data, its pages, and the routes that serve them.

``routes`` and ``build`` need FastAPI; the others do not.

The terminal (``crossfade status``, ``tail``, ``message``) tells the same from the same parts.
"""
