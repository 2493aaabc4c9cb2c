"""The ClickHouse engine in process behind ClickHouse's HTTP interface; run it with `python -m runstream_local.clickhouse`."""
