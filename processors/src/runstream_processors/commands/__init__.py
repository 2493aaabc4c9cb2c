"""Subcommands of `runstream` that this folder brings."""
