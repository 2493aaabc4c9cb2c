"""What can go wrong between Kafka and ClickHouse.

SinksError
├── ServerBusy        ClickHouse cannot take it now (down, restarting, overloaded): wait and try again
├── ServerRefused     ClickHouse will never take it as it is: stop and say why
├── TooManyMalformed  more malformed records came than an operator wants set aside: stop, so that somebody looks
├── KafkaAway         Kafka does not answer a command that needs it now
├── KafkaRefused      Kafka refused a request for good: stop and say why
└── MigrationMismatch a migration that was applied is not the file that this version carries
"""


class SinksError(Exception):
    """Root of this package's errors."""


class ServerBusy(SinksError):
    """ClickHouse did not take a statement and may take it later; `code` is its error code, None where the connection failed."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class ServerRefused(SinksError):
    """ClickHouse refused a statement for good; `code` is its error code, None where it gave none."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class KafkaAway(SinksError):
    """Kafka did not answer within the time that a command waits for it."""


class KafkaRefused(SinksError):
    """Kafka refused a request in a way that no retry mends."""


class TooManyMalformed(SinksError):
    """A topic has more malformed records than `dead_letter_ratio_max` and `dead_letter_run_max` allow, and `dead_letter_action` is `stop`."""

    def __init__(self, topic: str, partition: int, bound: str) -> None:
        super().__init__(
            f"{topic}: {bound}, and dead_letter_action is stop: `runstream dlq ls` shows what was set aside; "
            "stop its producer, or upgrade the sinks, or raise the bound, then start the worker again"
        )
        self.topic = topic
        self.partition = partition


class MigrationMismatch(SinksError):
    """The file of an applied migration was changed since, or the database is newer than this version."""
