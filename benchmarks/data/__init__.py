"""Data that benchmarks count on: fixed, so that figures of two days can be compared."""
