"""Commands of ``crossfade`` that are attached to it by entry points."""
