"""``crossfade up``: the servers and the service on this machine, its panel, its log."""
