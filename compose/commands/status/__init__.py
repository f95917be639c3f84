"""``crossfade status``: the partitions, the shadow and the followers."""
