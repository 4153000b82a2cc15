"""What users run on a checkout: demo, trials, benchmarks; and the harness that they run on."""
