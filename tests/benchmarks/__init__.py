"""Tests of `benchmarks`: that it measures what it says and says it in the agreed form; the figures themselves are not tested here."""
