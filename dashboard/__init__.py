"""The page: who serves now, what waits, what was served. It reads, and never writes."""
