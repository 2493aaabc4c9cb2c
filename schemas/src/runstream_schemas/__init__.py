"""Record types, Avro schemas, frame codec and topic descriptions of Runstream."""
