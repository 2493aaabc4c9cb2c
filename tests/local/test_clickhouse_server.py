"""The embedded ClickHouse server as its clients see it: clickhouse-connect and plain HTTP."""

# clickhouse-connect leaves most of its types open, and this file is about what comes back from it.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportAny=false, reportArgumentType=false

from __future__ import annotations

import gzip
import http.client
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.local.clickhouse_clients import connect, post

pytestmark = pytest.mark.stack


@pytest.fixture
def database(clickhouse_url: str) -> str:
    """A database of its own for one test."""
    name = f"d_{uuid.uuid4().hex[:8]}"
    assert post(clickhouse_url, f"CREATE DATABASE {name}").status == 200
    return name


def test_ping_and_version(clickhouse_url: str) -> None:
    """A client can connect and sees the engine's version."""
    with connect(clickhouse_url) as client:
        assert client.ping()
        assert str(client.server_version).startswith("26.")
        assert client.command("SELECT 1 + 1") == 2


def test_every_column_type_we_use_comes_back(clickhouse_url: str, database: str) -> None:
    """UUID, DateTime64, LowCardinality, Nullable, Array, Map and Float64 with NaN survive an insert and a query of clickhouse-connect."""
    # The client hands out UTC without a zone unless told otherwise.
    with connect(clickhouse_url, database=database, tz_mode="aware") as client:
        client.command(
            "CREATE TABLE t (id UUID, at DateTime64(3, 'UTC'), name LowCardinality(String), note Nullable(String), tags Array(String),"
            " labels Map(String, String), value Float64, big UInt64) ENGINE = MergeTree ORDER BY id"
        )
        row = [uuid.uuid4(), datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC), "loss", None, ["a", "b'"], {"k": "v"}, float("inf"), 2**64 - 1]
        summary = client.insert("t", [row])
        assert summary.written_rows == 1
        result = client.query("SELECT * FROM t")
        assert result.column_names == ("id", "at", "name", "note", "tags", "labels", "value", "big")
        assert [list(found) for found in result.result_rows] == [row]


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_inserts_come_in_whatever_compression(clickhouse_url: str, database: str, compress: str | bool) -> None:
    """clickhouse-connect's row and raw inserts work with each compression it knows."""
    with connect(clickhouse_url, database=database, compress=compress) as client:
        client.command("CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
        client.insert("t", [[number, "x" * 50] for number in range(5000)], column_names=["a", "b"])
        if compress == "gzip":
            client.raw_insert("t", ["a", "b"], gzip.compress(b"9000,y\n9001,z\n"), fmt="CSV", compression="gzip")
        assert client.query("SELECT count(), sum(a) FROM t WHERE a < 5000").result_rows == [(5000, 4999 * 2500)]
        assert client.query("SELECT count() FROM t WHERE a >= 9000").result_rows == [(2 if compress == "gzip" else 0,)]


def test_arrow_goes_in_and_out(clickhouse_url: str, database: str) -> None:
    """A table of Arrow columns, as the sinks insert them, comes back equal."""
    size = 20_000
    table = pa.table(
        {
            "run": pa.array([uuid.UUID(int=number % 7).bytes for number in range(size)], pa.binary(16)),
            "name": pa.array([f"loss/{number % 5}" for number in range(size)]).dictionary_encode(),
            "step": pa.array(range(size), pa.int64()),
            "time": pa.array([1_700_000_000_000 + number for number in range(size)], pa.timestamp("ms")),
            "value": pa.array([number / 3 for number in range(size)], pa.float64()),
        }
    )
    with connect(clickhouse_url, database=database) as client:
        client.command("CREATE TABLE t (run UUID, name LowCardinality(String), step Int64, time DateTime64(3), value Float64) ENGINE = MergeTree ORDER BY step")
        assert client.insert_arrow("t", table, settings={"optimize_on_insert": 0}).written_rows == size
        back = client.query_arrow("SELECT toString(run) AS run, toString(name) AS name, step, time, value FROM t ORDER BY step", use_strings=True)
        assert back.num_rows == size
        assert back["value"].to_pylist() == table["value"].to_pylist()
        assert back["name"].to_pylist() == table["name"].to_pylist()
        assert back["run"][3].as_py() == str(uuid.UUID(int=3))
        assert back["time"][1].as_py().timestamp() == 1_700_000_000.001
        assert client.command("SELECT count() FROM t WHERE run = toUUID('00000000-0000-0000-0000-000000000003')") == len(range(3, size, 7))


def test_parameters_are_bound_by_client_and_server(clickhouse_url: str) -> None:
    """Both ways of binding hand over values, not SQL."""
    hostile = "a'b\\c\n'; DROP TABLE t"
    with connect(clickhouse_url) as client:
        assert client.query("SELECT %(x)s, %(y)s", parameters={"x": 3, "y": hostile}).result_rows == [(3, hostile)]
        bound = client.query("SELECT {x:UInt32} + 1, {y:String}, {z:Array(Int8)}", parameters={"x": 3, "y": hostile, "z": [1, -2]})
        assert bound.result_rows == [(4, hostile, [1, -2])]
        at = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
        assert client.query("SELECT {t:DateTime64(3, 'UTC')} AS t", parameters={"t_64": at, "t": at}).result_rows[0][0].year == 2026
    # A parameter of one request is unknown to the next, whichever connection serves it.
    assert post(clickhouse_url, "SELECT {x:UInt8}", param_x="7").text == "7\n"
    assert [post(clickhouse_url, "SELECT {x:UInt8}").headers["X-ClickHouse-Exception-Code"] for _ in range(4)] == ["456"] * 4


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELECT * FROM missing", 60, 404),
        ("SELEC 1", 62, 400),
        ("SELECT nope", 47, 404),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT 1 FORMAT Nonsense", 73, 404),
        ("SELECT throwIf(number = 300000) FROM numbers(400000)", 395, 500),
    ],
)
def test_errors_carry_clickhouses_code_and_status(clickhouse_url: str, sql: str, code: int, status: int) -> None:
    """The header, the status and the text are those of a ClickHouse server, also when a query fails late."""
    answer = post(clickhouse_url, sql)
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (status, str(code))
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    with connect(clickhouse_url) as client, pytest.raises(DatabaseError) as caught:
        client.command(sql)
    assert caught.value.code == code


def test_a_missing_database_is_said(clickhouse_url: str) -> None:
    """A wrong database is an error of its own, and the connection that met it still serves others."""
    assert post(clickhouse_url, "SELECT 1", database="no_such").headers["X-ClickHouse-Exception-Code"] == "81"
    assert post(clickhouse_url, "SELECT currentDatabase()").text == "default\n"


def test_settings_last_one_request(clickhouse_url: str) -> None:
    """A setting of one request is gone in the next, also one that a connection cannot leave by itself."""
    assert post(clickhouse_url, "SELECT getSetting('max_block_size')", max_block_size="77").text == "77\n"
    assert post(clickhouse_url, "SELECT getSetting('max_block_size')").text != "77\n"
    assert post(clickhouse_url, "SELECT 1", no_such_setting="1").headers["X-ClickHouse-Exception-Code"] == "115"
    refused = post(clickhouse_url, "CREATE DATABASE never", readonly="1")
    assert refused.headers["X-ClickHouse-Exception-Code"] == "164"
    assert post(clickhouse_url, "SET max_block_size = 78").status == 200
    assert [post(clickhouse_url, "SELECT getSetting('max_block_size') = 78").text for _ in range(4)] == ["0\n"] * 4
    assert post(clickhouse_url, "SELECT getSetting('readonly')").text == "0\n"


def test_formats_reach_the_client_as_asked(clickhouse_url: str) -> None:
    """FORMAT in the SQL, default_format and the header each choose the answer's format; whole documents stay whole."""
    sql = "SELECT number AS n FROM numbers(200000)"
    answer = post(clickhouse_url, f"{sql} FORMAT JSON")
    assert len(json.loads(answer.text)["data"]) == 200_000
    assert answer.headers["X-ClickHouse-Format"] == "JSON"
    assert post(clickhouse_url, f"{sql} LIMIT 1", default_format="CSVWithNames").text == '"n"\n0\n'
    assert post(clickhouse_url, f"{sql} LIMIT 1", headers={"X-ClickHouse-Format": "JSONEachRow"}).text == '{"n":0}\n'
    assert post(clickhouse_url, f"{sql} LIMIT 2 -- FORMAT CSV").text == "0\n1\n"


def test_inserts_by_plain_http(clickhouse_url: str, database: str) -> None:
    """Rows in the body, after the statement in the body or in the URL, in VALUES, and from a SELECT."""
    assert post(clickhouse_url, "CREATE TABLE t (a Int32, b String) ENGINE = Memory", database=database).status == 200
    post(clickhouse_url, "INSERT INTO t FORMAT CSV\n1,x\n2,y\n", database=database)
    post(clickhouse_url, '{"a":3,"b":"z"}', query="INSERT INTO t FORMAT JSONEachRow", database=database)
    post(clickhouse_url, "(4,'v')", query="INSERT INTO t VALUES", database=database)
    post(clickhouse_url, "INSERT INTO t SELECT 5, 'w'", database=database)
    answer = post(clickhouse_url, gzip.compress(b"6\tq\n"), query="INSERT INTO t FORMAT TSV", database=database, headers={"Content-Encoding": "gzip"})
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "1"
    assert post(clickhouse_url, "SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)", database=database).text == "[1,2,3,4,5,6]\n"
    bad = post(clickhouse_url, "INSERT INTO t FORMAT CSV\nx,1\n", database=database)
    assert bad.status == 400
    assert post(clickhouse_url, "SELECT count() FROM t", database=database).text == "6\n"


def test_a_body_cut_short_inserts_nothing(clickhouse_url: str, database: str) -> None:
    """A client that dies halfway through its rows leaves none of them."""
    assert post(clickhouse_url, "CREATE TABLE t (a Int32) ENGINE = Memory", database=database).status == 200
    parts = urlsplit(clickhouse_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.putrequest("POST", f"/?database={database}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"INSERT INTO t FORMAT CSV\n1\n2\n3\n")
    connection.close()
    assert post(clickhouse_url, "SELECT count() FROM t", database=database).text == "0\n"


def test_get_only_reads(clickhouse_url: str) -> None:
    """GET answers reads and refuses everything that changes something, as ClickHouse does."""
    parts = urlsplit(clickhouse_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    answers: list[tuple[int, str]] = []
    # One connection for all: keep-alive works across answers and errors.
    for path in ("/ping", "/", "/?query=SELECT%201", "/?query=DROP%20DATABASE%20x", "/nowhere", "/?query=SELECT%202"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answers.append((answer.status, answer.read().decode()[:9]))
    connection.close()
    assert [status for status, _ in answers] == [200, 200, 200, 403, 404, 200]
    assert [text for _, text in answers[:3]] == ["Ok.\n", "Ok.\n", "1\n"]


def test_another_sites_page_is_refused(clickhouse_url: str) -> None:
    """A web page elsewhere cannot make the browser query this engine."""
    assert post(clickhouse_url, "SELECT 1", headers={"Origin": "https://elsewhere.example"}).status == 403
    assert post(clickhouse_url, "SELECT 1", headers={"Host": "rebound.example"}).status == 403


def test_form_encoded_parameters(clickhouse_url: str) -> None:
    """clickhouse-connect may send query and parameters as a form; so may other clients."""
    with connect(clickhouse_url, form_encode_query_params=True) as client:
        assert client.query("SELECT {x:UInt32}, {y:String}", parameters={"x": 3, "y": "ä'"}).result_rows == [(3, "ä'")]


def test_final_and_views_read_each_row_once(clickhouse_url: str, database: str) -> None:
    """Rows inserted twice read once through a view with FINAL, which is what the sinks rest on."""
    with connect(clickhouse_url, database=database) as client:
        client.command("CREATE TABLE t (k UInt32, version UInt32, v String) ENGINE = ReplacingMergeTree(version) ORDER BY k")
        client.command("CREATE VIEW current AS SELECT * FROM t FINAL")
        for version in (1, 2):
            client.insert("t", [[key, version, f"v{version}"] for key in range(100)], settings={"optimize_on_insert": 0})
        assert client.command("SELECT count() FROM t") == 200
        assert client.query("SELECT count(), uniqExact(v), any(v) FROM current").result_rows == [(100, 1, "v2")]


def test_many_threads_insert_and_query_at_once(clickhouse_url: str, database: str) -> None:
    """Sixteen clients at once lose no row and see no other's database."""
    with connect(clickhouse_url, database=database) as client:
        client.command("CREATE TABLE t (worker UInt32, a UInt32) ENGINE = MergeTree ORDER BY (worker, a)")

    def work(worker: int) -> int:
        with connect(clickhouse_url, database=database) as mine:
            for start in range(0, 1000, 100):
                mine.insert("t", [[worker, number] for number in range(start, start + 100)])
            return int(mine.query("SELECT count() FROM t WHERE worker = {w:UInt32}", parameters={"w": worker}).result_rows[0][0])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16))) == [1000] * 16


def test_queries_run_beside_each_other(clickhouse_url: str) -> None:
    """A slow query does not hold up a quick one."""
    slow = threading.Thread(target=post, args=(clickhouse_url, "SELECT sleep(2)"))
    slow.start()
    assert post(clickhouse_url, "SELECT 1").text == "1\n"
    assert slow.is_alive()
    slow.join()
