"""Delivery of entries to workers: leases, claims, reading, acknowledging, trimming."""
