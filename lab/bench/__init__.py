"""Benchmarks beside the textbook loops, on the same servers, in the same minute."""
