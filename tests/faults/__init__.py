"""Tests that kill parts of the embedded stack while ranks log."""
