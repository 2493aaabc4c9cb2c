"""Subcommands that come with the SDK."""
