"""The embedded stack of Runstream: Apache Kafka and the ClickHouse engine from Python packages."""
