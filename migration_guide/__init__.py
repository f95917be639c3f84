"""Change the log under live traffic: phases, the steps between them, and the gates of each step.

It may use everything but ``compose``, and knows logs by the contract alone. The pair of logs is
named in the migration's row (``persistence.fleet.log_choice``).
"""
