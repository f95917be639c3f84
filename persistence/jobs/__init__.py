"""Long jobs (redrives, backfills, repairs): started, watched, cancelled and resumed by any process.

This room knows no kind of job. The caller passes the work, as a step that is repeated.
"""
