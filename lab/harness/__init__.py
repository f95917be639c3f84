"""A load on real processes that records every answer, and a checker of the outcome.

The rehearsal and the fault tests both use it. It starts and ends the service's processes
(``compose.local``), and uses nothing inside them.
"""
