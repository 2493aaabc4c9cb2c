"""Tests of runstream_rules."""
