"""The pure core of Runstream: alert rules and summaries, without I/O and without a clock."""
