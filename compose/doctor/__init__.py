"""``crossfade doctor``: examines everything that is configured, once, and changes nothing.

Each file examines one thing and yields observations.
"""
