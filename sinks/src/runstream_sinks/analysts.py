"""A ClickHouse user for people who ask: may read everything of one database, change nothing, and not ask for more than the server can bear. Pure; `commands/migrate` sends the statements."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_sinks.layout import literal
from runstream_sinks.migrations import Change

if TYPE_CHECKING:
    from runstream_sinks.layout import Cluster


@dataclass(frozen=True, slots=True)
class Limit:
    """What a setting is for the user, and the least and greatest value that a query may ask for; any if None."""

    value: str
    bounds: tuple[str, str] | None = None

    @property
    def sql(self) -> str:
        """As a settings profile has it."""
        return self.value if self.bounds is None else f"{self.value} MIN {self.bounds[0]} MAX {self.bounds[1]}"


# Clients such as Grafana and notebooks send settings with their queries, so the user may change settings (2, not 1) but not beyond these bounds.
# The least is 1, since 0 means that there is no limit.
LIMITS = {
    "readonly": Limit("2"),
    "max_memory_usage": Limit("8000000000", ("1", "8000000000")),
    "max_execution_time": Limit("60", ("1", "600")),
    "max_concurrent_queries_for_user": Limit("16", ("1", "16")),
    "max_bytes_before_external_group_by": Limit("4000000000", ("1", "4000000000")),
    "max_bytes_before_external_sort": Limit("4000000000", ("1", "4000000000")),
    # A question about one run goes to its shard alone.
    "optimize_skip_unused_shards": Limit("1"),
}
PASSWORD_LENGTH_MIN = 8


def checked_name(name: str) -> str:
    """The name, if a user may be called so.

    Raises:
        ValueError: in one sentence, what was expected and what came.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}", name):
        raise ValueError(f"expected a user's name of at most 63 letters, digits, dots, dashes and underscores that begins with no digit, got {name!r}")
    return name


def change(name: str, password: str, salt: str, database: str, cluster: Cluster | None) -> Change:
    """What makes the user, its role and its limits, or makes them anew with this password. The password itself is not in the statements: only its salted hash is sent.

    Raises:
        ValueError: the password is too short.
    """
    if len(password) < PASSWORD_LENGTH_MIN:
        raise ValueError(f"expected a password of at least {PASSWORD_LENGTH_MIN} characters for {name}, got {len(password)}")
    on = f" ON CLUSTER `{cluster.name}`" if cluster else ""
    role = f"`{database}_analyst`"
    digest = hashlib.sha256(f"{password}{salt}".encode()).hexdigest().upper()
    limits = ", ".join(f"{setting} = {limit.sql}" for setting, limit in LIMITS.items())
    return Change(
        f"user {name}, who may read {database}",
        (
            f"CREATE SETTINGS PROFILE OR REPLACE {role}{on} SETTINGS {limits}",
            f"CREATE ROLE IF NOT EXISTS {role}{on}",
            f"GRANT{on} SELECT ON `{database}`.* TO {role}",
            f"CREATE USER OR REPLACE `{name}`{on} IDENTIFIED WITH sha256_hash BY '{digest}' SALT {literal(salt)}"
            f" DEFAULT DATABASE `{database}` SETTINGS PROFILE {literal(f'{database}_analyst')}",
            f"GRANT{on} {role} TO `{name}`",
        ),
        secret=digest,
    )
