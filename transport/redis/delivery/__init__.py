"""The way of an entry to its worker: leases, claims, reading, acknowledging, trimming."""
