"""Reads that wait for records, published positions, and trimming below them."""
