"""What can be wrong with a record or a setting.

SchemasError
├── MalformedRecord   the bytes are not what their schema says; the record is set aside
├── UnknownSchema     the id in the prefix is not known yet; a reader waits (bounded) for the schema topic
└── SettingsError     (in `settings`) a setting is unknown or does not fit; the process says so and ends
"""


class SchemasError(Exception):
    """Root of this package's errors."""


class MalformedRecord(SchemasError):
    """The bytes do not decode; `schema_id` is what the prefix said, or None where there was no prefix."""

    def __init__(self, message: str, schema_id: int | None = None) -> None:
        super().__init__(message)
        self.schema_id = schema_id


class UnknownSchema(SchemasError):
    """The prefix names a schema id that is not in the catalogue."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} is not in the catalogue: read the schema topic, or upgrade this reader")
        self.schema_id = schema_id
