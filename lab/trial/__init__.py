"""The trial: real processes, real faults at random instants, and a check of every request."""
