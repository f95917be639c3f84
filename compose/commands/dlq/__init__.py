"""``crossfade dlq``: dead letters selected, listed, redriven, discarded."""
