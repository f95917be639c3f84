"""Puts the parts together: in one process, on one machine without Docker, in containers."""
