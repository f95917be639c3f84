"""Every promise, on real servers; what they share is in `support`."""
