"""The log: the contract, the message with its envelope, and one adapter for each broker.

It knows neither HTTP nor SQL. Start at ``transport.contract``. The adapters (``redis``, ``kafka``,
``memory``) don't know each other, and are made by name (``transport.registry``): no module of
another package imports one.
"""
