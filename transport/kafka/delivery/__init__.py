"""Delivery of records to workers: membership, claims, fetching, damaged and stalled partitions."""
