"""Faust processors of Runstream: alert rules, summaries, notifications."""
