"""The search for messages by an id, a log's offset, a sender, a conversation or a time."""
