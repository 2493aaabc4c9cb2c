"""The demo: a real training run of two ranks on the embedded stack, watched live and accounted for at the end."""
