"""Artifacts: the store, uploads and downloads, and what calls make of bad input."""
