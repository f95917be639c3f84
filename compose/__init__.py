"""Runs the service: composes its parts into processes, and has the ``crossfade`` command."""
