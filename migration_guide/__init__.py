"""Changing the log under live traffic: phases, gates and their proof."""
