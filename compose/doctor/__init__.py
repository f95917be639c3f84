"""``crossfade doctor``: everything that is configured, looked at once. Changes nothing.

Each file looks at one thing and yields observations. It may touch whatever a process touches.
"""
