"""Private servers, processes and networks, on which the demo, trials, benchmarks and tests run."""
