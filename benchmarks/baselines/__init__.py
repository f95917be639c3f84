"""Baselines of the figures: the ordinary way to do the same thing."""
