"""A consumer group in Kafka: committed offsets, members, and where it stands."""
