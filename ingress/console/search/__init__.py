"""Messages found by an id, a place in a log, a sender, a conversation or a time."""
