"""Tests of runstream_processors."""
