"""Asks ClickHouse over HTTP with the standard library alone, for users of the SDK; the work is `runstream_schemas.clickhouse`'s, which other folders call too."""

from runstream_schemas.clickhouse import SqlError, ask, open_answer

__all__ = ["SqlError", "ask", "open_answer"]
