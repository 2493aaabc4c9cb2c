"""Tests of the SDK and of its command."""
