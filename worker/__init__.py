"""The worker: takes requests in turn, commits each to the database, and only then acks it."""
