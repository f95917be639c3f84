"""Figures, one a file: what is measured, and beside which baseline."""
