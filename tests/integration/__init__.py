"""Tests of the whole pipeline on the embedded stack."""
