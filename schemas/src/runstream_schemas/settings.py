"""Every setting of Runstream in one place: name, type, default and one line of meaning.

They come in one order: argument, environment (`RUNSTREAM_` and the name in capitals), file (`config.toml` in the home folder, or `RUNSTREAM_CONFIG`), the
embedded stack that runs on the home folder (its `stack.json`), default. `load` builds the one frozen object that a process passes down. One setting may change meanwhile:
where nothing names a Kafka it is the home folder's, wherever that listens.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from runstream_schemas.errors import SchemasError
from runstream_schemas.fields import AfterValidator, Field, FieldError, Model

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "RUNSTREAM_"
STACK = "stack"  # As Kafka's address: wherever the embedded stack of the home folder listens, which it may change with each start.
_ENVIRONMENT = "environment"
# May carry passwords and tokens: neither printed with the settings nor repeated in an error.
SECRET = frozenset({"archive_url", "artifact_url", "kafka_options", "clickhouse_url", "read_url", "analyst_password", "webhook", "webhook_secret", "notify"})
_ADDRESS = "an address that begins with http:// or https://"
# What a setting with a pattern expects, in words: an expression would tell people little.
_EXPECTED = {
    "capture": "all, none or names of parts, separated by commas, such as git,packages or all,-variables",
    "console_url": _ADDRESS,
    "topic_prefix": "1 to 80 letters, digits, dots, underscores and dashes",
    "clickhouse_url": _ADDRESS,
    "read_url": _ADDRESS,
    "analyst": "a user's name of at most 63 letters, digits, dots, dashes and underscores that begins with no digit",
    "clickhouse_database": "a name of at most 63 letters, digits and underscores that begins with no digit",
    "clickhouse_cluster": "the name of a cluster: 1 to 63 letters, digits, dots, underscores and dashes",
    "preemption_signals": "some of SIGUSR1 and SIGUSR2, separated by spaces",
    "webhook": _ADDRESS,
}


class SettingsError(SchemasError):
    """A setting is unknown or has a value that does not fit; the message is one sentence that names it. Commands print it and exit with 2."""


def _absolute(path: Path) -> Path:
    """The path from the root on, so that it names the same file after the process changed its folder and in its children."""
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("this user has no home folder, so a path must not begin with ~") from None


def _off_or_a_minute(seconds: float) -> float:
    """What costs a training node next to nothing: more often than once a second it would, and less often than once a minute it tells little."""
    if seconds == 0 or 1 <= seconds <= 60:
        return seconds
    raise ValueError("expected 1 to 60, or 0")


_Path = Annotated[Path, AfterValidator(_absolute)]
_Interval = Annotated[float, AfterValidator(_off_or_a_minute)]


class Settings(Model):
    """The settings of one process; build it with `load`. Its paths are absolute."""

    home: _Path = Field(default=Path("~/.runstream"), description="folder of the embedded stack and of config.toml")
    config: _Path | None = Field(default=None, description="settings file in TOML, instead of config.toml in the home folder")
    kafka: str = Field(
        default="127.0.0.1:9092",
        description="Kafka bootstrap servers, host:port, separated by commas; `stack` or unset: the embedded stack of the home folder, wherever it listens",
        min_length=3,
    )
    kafka_options: dict[str, str] = Field(
        default_factory=dict,
        description="librdkafka options passed through (SASL, TLS ...), as key=value separated by semicolons or as a JSON object",
        repr=False,
    )
    topic_prefix: str = Field(default="runstream", description="what the names of all topics and consumer groups begin with", pattern=r"^[A-Za-z0-9._-]{1,80}$")
    partitions: int | None = Field(
        default=None,
        description="partitions of topics that carry metrics when they are created, instead of their own count",
        ge=1,
        le=10_000,
    )
    clickhouse_url: str = Field(
        default="http://127.0.0.1:8123",
        description="ClickHouse's HTTP address, user and password included where needed",
        pattern=r"^https?://",
        repr=False,
    )
    clickhouse_database: str = Field(default="runstream", description="database of the tables and views", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
    clickhouse_cluster: str | None = Field(
        default=None, description="ClickHouse cluster that `runstream migrate` makes the tables for; one node unless set", pattern=r"^[A-Za-z0-9._-]{1,63}$"
    )
    read_url: str | None = Field(
        default=None,
        description="ClickHouse's HTTP address for `runstream.read`, with a user who may only read; clickhouse_url unless set",
        pattern=r"^https?://",
        repr=False,
    )
    analyst: str = Field(
        default="analyst", description="name of the user who may only read the embedded ClickHouse", pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$"
    )
    analyst_password: str | None = Field(
        default=None, description="password of the user who may only read: of `runstream migrate --analyst`, and of the embedded ClickHouse", repr=False
    )
    journal_dir: _Path | None = Field(default=None, description="node-local folder of the journals; /var/tmp/runstream-UID unless set")
    journal_bytes_max: int | None = Field(
        default=None,
        description="bytes of journal one process may keep unshipped; rows past it are dropped and counted; 4 GiB unless set, 256 MiB in memory (tmpfs)",
        ge=1 << 20,
    )
    segment_bytes: int = Field(default=16 << 20, description="size of a journal segment, 4 MiB at most in memory (tmpfs)", ge=1 << 16)
    compiled: bool = Field(
        default=True, description="whether the usual log call is the compiled one, where set-up could build it; false takes the one in Python"
    )
    batch_interval: float = Field(default=0.1, description="seconds the agent waits for more rows before it cuts a frame", ge=0.0, le=60.0)
    batch_size: int = Field(default=512 << 10, description="bytes of rows after which a frame is cut", ge=1024, le=4 << 20)
    linger_ms: int = Field(default=5, description="milliseconds librdkafka waits to fill a request", ge=0, le=60_000)
    register_timeout: float = Field(
        default=60.0,
        description="seconds that Kafka may take to answer one request before its connection is given up and its records are sent again",
        ge=1.0,
        le=300.0,
    )
    hardware_interval: _Interval = Field(default=5.0, description="seconds between hardware readings, 1 to 60; 0 turns them off")
    heartbeat_interval: float = Field(default=5.0, description="seconds between a writer's heartbeats", ge=0.1, le=3600.0)
    agent_idle_timeout: float = Field(default=30.0, description="seconds without a writer after which the agent ends itself", ge=0.1)
    sync_timeout: float = Field(
        default=60.0, description="seconds that `runstream sync` waits for Kafka without any answer before it gives up; what is left stays where it is", ge=0.1
    )
    mode: Literal["online", "inline", "offline", "disabled"] = Field(
        default="online",
        description="online ships by an agent beside the ranks, inline by a thread; offline keeps the journal for `runstream sync`; disabled records nothing",
    )
    preemption_signals: str = Field(
        default="",
        description="signals that announce preemption, such as SIGUSR1, taken even where nobody handles them; with a handler of yours they are noted anyway",
        pattern=r"^((SIG)?USR[12] ?)*$",
    )
    strict: bool = Field(default=False, description="raise on bad input instead of warning once; for tests")
    run_id: str | None = Field(default=None, description="run that every rank of a job joins")
    capture: str = Field(
        default="all",
        description="what a run captures at its start: all, none, or some of python,platform,command,directory,git,packages,variables; or all but some: all,-git",
        pattern=r"^(all|none|-?(python|platform|command|directory|git|packages|variables))(,-?(python|platform|command|directory|git|packages|variables))*$",
    )
    console: bool = Field(default=False, description="whether what a process writes to stdout and stderr is recorded as events")
    console_lines: float = Field(
        default=100.0, description="lines of console a second, in the long run, past which lines are left out and counted", ge=1.0, le=10_000.0
    )
    console_url: str | None = Field(default=None, description="address of the console, where `run.url` points to", pattern=r"^https?://")
    webhook: str | None = Field(default=None, description="URL that the notifier posts alerts to", pattern=r"^https?://", repr=False)
    webhook_secret: str | None = Field(default=None, description="secret that signs what the notifier posts to the webhook", min_length=1, repr=False)
    notify: str | None = Field(default=None, description="notification URLs of Apprise, separated by spaces; NAME=URL names the channel", repr=False)
    channels: _Path | None = Field(default=None, description="file of the notifier's channels (TOML); channels.toml in the home folder unless set")
    alert_late_s: float = Field(default=3600.0, description="age in seconds past which an alert is recorded as late and notifies nobody", gt=0)
    rules_wait: float = Field(default=10.0, description="seconds a processor holds a frame whose writer's rules have not all come", ge=0.0)
    crashed_after: float = Field(
        default=300.0, description="seconds without a sign of life after which processors take a writer that runs for crashed", ge=10.0
    )
    sink_rows: int = Field(default=500_000, description="rows after which a sink inserts a chunk", ge=1)
    sink_interval: float = Field(default=1.0, description="seconds after which a sink inserts what it has", gt=0.0)
    dead_letter_ratio_max: float = Field(
        default=0.5, description="share of malformed records of a topic past which a sink sets them aside only slowly; 1 means no bound", gt=0.0, le=1.0
    )
    dead_letter_run_max: int = Field(
        default=5000, description="malformed records of a partition in a row past which a sink sets them aside only slowly; 0 means no bound", ge=0
    )
    dead_letter_action: Literal["slow", "stop"] = Field(
        default="slow", description="what a sink does past the bounds on malformed records: set them aside slowly, or stop until somebody has looked"
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        default="classic", description="Kafka's group protocol of the sinks: classic, or consumer (KIP-848, brokers of 4.0 and later)"
    )
    group_instance_id: str | None = Field(
        default=None,
        description="name of this sink among the sinks (Kafka's group.instance.id), so that it keeps its partitions while it is restarted",
        min_length=1,
    )
    metrics_port: int | None = Field(
        default=None, description="port on which a sink serves /metrics for Prometheus and /healthz; neither is served unless set", ge=1, le=65535
    )
    metrics_host: str = Field(default="0.0.0.0", description="address on which a sink serves /metrics and /healthz", min_length=1)  # noqa: S104  # as exporters do
    stall_after: float = Field(
        default=60.0, description="seconds that a sink's offsets may stand still while records wait before its /healthz turns red", gt=0.0
    )
    log_format: Literal["text", "json"] = Field(default="text", description="form of a sink's log: text is one line with key=value, json one object a line")
    archive_url: str | None = Field(
        default=None, description="folder of the archive's Parquet files: a path, or any fsspec URL such as s3://bucket/folder", min_length=1, repr=False
    )
    archive_interval: float = Field(default=300.0, description="seconds after which the archive's worker writes what it has of a partition", gt=0.0)
    archive_bytes: int = Field(default=64 << 20, description="bytes of records after which the archive's worker writes a file", ge=1)
    artifact_url: str | None = Field(
        default=None,
        description="folder of the artifact store: a path, or any fsspec URL such as s3://bucket/folder; artifacts in the home folder unless set",
        min_length=1,
        repr=False,
    )
    media_inline_bytes: int = Field(
        default=16 << 10, description="bytes past which a value of log_media goes into the artifact store, and its record refers to it", ge=0, le=4 << 20
    )
    media_bytes_max: int = Field(default=256 << 20, description="bytes past which a value of log_media is refused whole", ge=1)
    ready_file: _Path | None = Field(default=None, description="file in which a worker writes `ready` once it consumes")

    @property
    def home_dir(self) -> Path:
        """The home folder."""
        return self.home

    @property
    def reading_url(self) -> str:
        """ClickHouse's address for those who only read: `read_url`, with `analyst_password` where it names a user without one; else `clickhouse_url`."""
        if self.read_url is None:
            return self.clickhouse_url
        place = self.read_url.partition("://")[2].partition("/")[0]
        user, at, _ = place.rpartition("@")
        if not self.analyst_password or not at or ":" in user:
            return self.read_url
        from urllib.parse import quote

        return self.read_url.replace(f"{user}@", f"{user}:{quote(self.analyst_password, safe='')}@", 1)

    @property
    def kafka_is_stack(self) -> bool:
        """Whether nothing names a Kafka, so that the embedded stack of the home folder is meant: `kafka` is where it listens or listened last, `refreshed` looks again."""
        return "kafka" not in self.model_fields_set


def load(arguments: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, called: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; arguments that are None do not count. What is wrong with one is told by the name of the argument in `called`, by setting, where it has one.

    Raises:
        SettingsError: a setting is unknown, or its value does not fit.
    """
    values, places, _ = _gathered(arguments, environ)
    for name in values:
        if name not in Settings.model_fields:
            raise SettingsError(_unknown(name, places[name]))
    try:
        if values.get("kafka", STACK) != STACK:
            return Settings.model_validate(values)
        values.pop("kafka", None)
        settings = Settings.model_validate(values)
        return _at(settings, _kafka_of_stack(settings.home))
    except FieldError as error:
        name = error.name
        shown = f"argument {called[name]!r}" if called and name in called else _name_at(name, places.get(name, "default"))
        meaning = Settings.model_fields[name].description
        wrong = f"expected {_EXPECTED[name]}" if error.by_pattern else error.why
        got = "" if name in SECRET else f", got {error.value!r}"
        # The sentence says it all.
        raise SettingsError(f"{shown} ({meaning}) does not fit: {wrong}{got}") from None


def refreshed(settings: Settings) -> Settings:
    """The settings as they are now, where the embedded stack of the home folder may have come, or gone to another port; the same object where it has not."""
    if not settings.kafka_is_stack or (kafka := _kafka_of_stack(settings.home)) == settings.kafka:
        return settings
    return _at(settings, kafka)


def _at(settings: Settings, kafka: str) -> Settings:
    """The settings with an address of Kafka that nobody named."""
    return Settings.model_construct(_fields_set=settings.model_fields_set - {"kafka"}, **(dict(settings) | {"kafka": kafka}))


def origin_of(name: str, environ: Mapping[str, str] | None = None) -> str:
    """Where this process has a setting's value from: `environment`, the path of a file, or `default`; raises SettingsError as `load` does."""
    return _gathered(None, environ)[1].get(name, "default")


def settings_file(environ: Mapping[str, str] | None = None) -> Path:
    """The settings file that holds for this process, whether it is there or not; raises SettingsError as `load` does."""
    return _gathered(None, environ)[2]


def _gathered(arguments: Mapping[str, object] | None, environ: Mapping[str, str] | None) -> tuple[dict[str, object], dict[str, str], Path]:
    """What is set anywhere, by name: the value that wins, the place it comes from; and the path of the settings file."""
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    from_environment = _environment(os.environ if environ is None else environ)
    named = {**from_environment, **given}
    config = named.get("config")
    path = Path(str(config)).expanduser() if config else _home(named) / "config.toml"
    from_file = _file(path, required=bool(config))
    home = _home({**from_file, **named})
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    # Its Kafka is none that somebody named, and `load` looks for it.
    stack = {name: value for name, value in _stack(home).items() if name != "kafka"}
    for source, place in ((stack, f"{home / 'stack.json'}"), (from_file, f"{path}"), (from_environment, _ENVIRONMENT), (given, "argument")):
        if "clickhouse_url" in source:
            values.pop("read_url", None)  # It was said of another ClickHouse, in a place that goes behind this one.
        values |= source
        places |= dict.fromkeys(source, place)
    return values, places, path


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a child process these settings, whatever files it finds; what is None is left out. Where Kafka is the stack's, the child looks for it itself."""
    out: dict[str, str] = {}
    for name in Settings.model_fields:
        value: object = getattr(settings, name)
        if name == "kafka" and settings.kafka_is_stack:
            out[PREFIX + name.upper()] = STACK
        elif name == "kafka_options":
            if settings.kafka_options:
                out[PREFIX + name.upper()] = json.dumps(settings.kafka_options)
        elif value is not None:
            out[PREFIX + name.upper()] = str(value)
    return out


def _home(values: Mapping[str, object]) -> Path:
    try:
        return _absolute(Path(str(values.get("home") or Settings.model_fields["home"].default)))
    except ValueError as error:
        raise SettingsError(f"setting 'home' ({PREFIX}HOME) does not fit: {error}") from None


def _name_at(name: str, place: str) -> str:
    return PREFIX + name.upper() if place == _ENVIRONMENT else f"setting {name!r} ({place})"


def _unknown(name: str, place: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    hint = f"did you mean {_name_at(close[0], place)}?" if close else "`runstream settings` lists what there is"
    return f"{_name_at(name, place)} is no setting of Runstream: {hint}"


def _environment(environ: Mapping[str, str]) -> dict[str, object]:
    out: dict[str, object] = {}
    for key, text in environ.items():
        if key.startswith(PREFIX) and text:
            name = key.removeprefix(PREFIX).lower()
            out[name] = _options(key, text) if name == "kafka_options" else text
    return out


def _options(key: str, text: str) -> dict[str, object]:
    if text.lstrip().startswith("{"):
        try:
            return cast("dict[str, object]", json.loads(text))
        except ValueError:
            raise SettingsError(f"{key} begins like a JSON object and is none: check its quotes and braces") from None
    out: dict[str, object] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        name, equals, value = part.partition("=")
        if not equals:
            raise SettingsError(f"{key} must be key=value pairs separated by semicolons, and one of them has no =")
        out[name.strip()] = value.strip()
    return out


def _file(path: Path, *, required: bool) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"setting 'config' ({PREFIX}CONFIG) names a settings file that is not there: {path}") from None
        return {}
    except NotADirectoryError:
        name = "config" if required else "home"
        raise SettingsError(f"setting {name!r} ({PREFIX}{name.upper()}) does not fit: {path.parent} is no folder") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the settings file {path} cannot be read as TOML: {error}") from error


def _stack(home: Path) -> dict[str, object]:
    """Addresses of the embedded stack that runs on the home folder; nothing where none runs."""
    try:
        if not _is_supervised(home):
            return {}
        stack = cast("dict[str, Any]", json.loads((home / "stack.json").read_text(encoding="utf-8")))
        return dict(stack["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _kafka_of_stack(home: Path) -> str:
    """Where the Kafka of the home folder's embedded stack is: where it listens, else where it did the first time (`ports.json`), which it takes again if it can."""
    listens = _stack(home).get("kafka")
    if isinstance(listens, str):
        return listens
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        return f"127.0.0.1:{int(json.loads((home / 'ports.json').read_text(encoding='utf-8'))['kafka'][0])}"
    return Settings.model_fields["kafka"].default


def _is_supervised(home: Path) -> bool:
    """Whether a supervisor holds the lock of the home folder, which is the truth: a pid may long be another process's.

    Asking never waits, and holds the lock, shared, for a moment only; a supervisor that comes at that moment tries again.
    """
    with (home / "supervisor.lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
