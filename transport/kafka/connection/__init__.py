"""Clients of a log: made for its settings, secured, lent to requests, closed."""
