"""The ``crossfade`` command: a file or a room for each of its verbs, by its name."""
