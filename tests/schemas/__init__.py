"""Tests of `runstream_schemas`."""
