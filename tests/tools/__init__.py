"""Tests of the tools beside the code."""
