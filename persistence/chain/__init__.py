"""The order in which the logs are read, so that a change of log keeps the order of messages.

``docs/order.md`` explains it, and ``Crossfade.tla`` is its specification.
"""
