"""Servers, processes and networks of one's own: what demo, trials, benchmarks and tests run on."""
