"""What reads bytes of others, fed with bytes that nobody meant: `python -m tests.fuzz`."""
