"""A shop of ordinary size: what `make run`, the tests and the benchmarks serve."""
