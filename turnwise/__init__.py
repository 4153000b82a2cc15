"""What every process agrees on: the request, the topology, the connections, the errors."""

__version__ = "0.1.0"
