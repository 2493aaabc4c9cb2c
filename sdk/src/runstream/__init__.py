"""Experiment telemetry that training cannot feel and cannot lose."""
