"""``crossfade migrate``: its commands, and the parts that they share."""
