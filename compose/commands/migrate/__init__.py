"""``crossfade migrate``: each of its commands, and what they share."""
