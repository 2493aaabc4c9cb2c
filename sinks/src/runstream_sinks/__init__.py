"""Sink workers of Runstream: Kafka into ClickHouse, idempotent by key."""
