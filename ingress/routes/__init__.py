"""The ordinary routes: everything but the two that carry the traffic."""
