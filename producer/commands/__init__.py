"""The commands of ``producer``, one module each."""
