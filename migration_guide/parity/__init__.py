"""Parity: do two logs hold the same messages? Start at ``migration_guide.parity.check.check``.

The unit of comparison is an *original*: a record that is no copy of another. Its copy in the other
log names it (the header ``mirrorOf``), so pairs are exact and nothing is guessed from positions.

It reads logs by the contract and knows neither gates nor steps.
"""
