"""Benchmarks of Runstream: `python -m benchmarks ls` lists them, `python -m benchmarks NAME` runs one. Adding one is a module and a line in `registry`."""
