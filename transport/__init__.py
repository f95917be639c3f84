"""The log: the contract, the envelope, the partitioner, and one adapter per broker.

It knows neither HTTP nor SQL. Start at :mod:`transport.contract`. The adapters (``redis``,
``kafka``, ``memory``) know nothing of each other and are made by name
(:mod:`transport.registry`): no module of another package imports one.
"""
