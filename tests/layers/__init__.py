"""Tests that read the folders themselves: who may import what."""
