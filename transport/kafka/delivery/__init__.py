"""The way of a record to its worker: membership, claims, fetching, what holds it up."""
