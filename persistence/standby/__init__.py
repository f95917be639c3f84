"""Keep the workers' position in a log that they do not read: acknowledge settled records.

A standby stores a record only by the rules of ``takeover_rules``.
"""
