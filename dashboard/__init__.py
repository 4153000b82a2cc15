"""The page: which replicas serve, the backlog, and what was served."""
