"""A consumer group in Kafka: its published offsets, its members, and its position."""
