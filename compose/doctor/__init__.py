"""``crossfade doctor``: everything that is configured, looked at once. Changes nothing.

Each file looks at one thing and yields findings. It may touch whatever a process touches.
"""
