"""Tests of `runstream_sinks`."""
