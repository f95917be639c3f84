"""Long jobs (redrives, backfills, repairs): begun, watched, cancelled and resumed by any process.

It knows no kind's work. What asks for a job brings its own, as a step that is repeated.
"""
