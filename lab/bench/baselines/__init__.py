"""Baselines of the figures: common implementations of the same work."""
