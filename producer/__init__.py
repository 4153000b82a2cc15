"""The client: numbers requests, keeps them in an outbox, publishes them with confirms."""
