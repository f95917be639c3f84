"""The state of a consumer group in Kafka: committed offsets, members, and its position."""
