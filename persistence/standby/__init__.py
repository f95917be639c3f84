"""Keep the workers' place in a log that they do not read: acknowledge settled records.

It stores a record only by the rules of ``takeover_rules``.
"""
