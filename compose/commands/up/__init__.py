"""``crossfade up``: runs the servers and the service on this machine; its panel and its log."""
