"""The journal: memory-mapped files between a process that logs and the shipper that reads after it."""
