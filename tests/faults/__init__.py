"""Faults through real processes: nothing acknowledged is lost, doubled, reordered or made up."""
