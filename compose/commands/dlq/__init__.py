"""``crossfade dlq``: commands to select, list, redrive and discard dead letters."""
