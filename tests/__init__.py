"""Tests of Runstream; the folders below mirror the workspace."""
