"""Tests of runstream_feed."""
