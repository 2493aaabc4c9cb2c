"""The same logging work through clients that users would pick instead: `python -m benchmarks.peers`."""
