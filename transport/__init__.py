"""The log: the contract, the envelope, the partitioner, and one adapter per broker.

Never knows HTTP or SQL. Start at :mod:`transport.contract`.
"""
