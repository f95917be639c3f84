"""The operator's console: its data, its pages, and the routes that serve them.

``routes`` and ``build`` need FastAPI; the others do not.

The commands ``crossfade status``, ``tail`` and ``message`` show the same data from the same parts.
"""
