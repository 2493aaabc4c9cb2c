"""Whether a run has been there before: asks ClickHouse, which may not have heard of everything yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from runstream.sql import SqlError, open_answer
from runstream_schemas.settings import origin_of

if TYPE_CHECKING:
    from runstream_producers.journal.format import Identity
    from runstream_schemas.settings import Settings

TIMEOUT_S = 2.0
# Of ranks that begin together each has a writer in the run: what counts is an earlier start of the same rank, in another attempt.
_ASK = """
SELECT count() > 0 AS existed FROM writer_states
WHERE run_id = {run:UUID} AND kind = 'rank' AND rank = {rank:UInt32} AND writer != {writer:UInt64} AND attempt != {attempt:String} AND started < fromUnixTimestamp64Milli({started:Int64})
"""


def address_of(settings: Settings) -> str | None:
    """The address of ClickHouse for reading, where one is set anywhere; None where there is but the default, at which a stranger may live."""
    named = settings.read_url is not None or "clickhouse_url" in settings.model_fields_set or origin_of("clickhouse_url") != "default"
    return settings.reading_url if named else None


def ask(settings: Settings, identity: Identity | None) -> bool | None:
    """Whether an earlier start of this rank is known of the run; None where nobody can be asked. Blocks for `TIMEOUT_S` at most, and never raises."""
    url = address_of(settings)
    if identity is None or url is None or settings.mode in ("offline", "disabled"):
        return None
    asked = {"run": identity.run_id, "rank": identity.rank, "writer": identity.writer, "attempt": identity.attempt, "started": identity.started_ms}
    parameters = {f"param_{name}": str(value) for name, value in asked.items()}
    try:
        with open_answer(url, _ASK, database=settings.clickhouse_database, answer_format="JSONEachRow", settings=parameters, timeout_s=TIMEOUT_S) as answer:
            return bool(json.loads(answer.readline())["existed"])
    except (SqlError, OSError, ValueError, KeyError):
        return None
