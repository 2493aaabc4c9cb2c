"""The record types that travel on the topics, one frozen class for each Avro schema, with the same fields in the same order.

Times are epoch milliseconds. Encoding is `wire`'s; the arrays of `MetricFrame` are `frame`'s. Importing this module loads nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy import float64, int64
    from numpy.typing import NDArray

# A client logs events and belongs to no run.
WriterKind = Literal["rank", "hardware", "client", "console"]
State = Literal["running", "finished", "failed", "killed", "preempted", "crashed"]
ParamKind = Literal["null", "bool", "int", "float", "string", "list", "dict"]
ValueKind = Literal["null", "bool", "int", "float", "string", "list", "dict", "bytes", "tensor"]
MediaKind = Literal["value", "line", "bar", "table", "heatmap", "labelmap", "evaluation", "image", "histogram", "text"]
ArtifactKind = Literal["file", "folder", "tracked", "model", "model_version", "dataset"]
ArtifactRelation = Literal["output", "input"]
# A metric's value that is no number, a summary value that the user set, or what somebody says of metrics.
ValueRole = Literal["metric", "summary", "step_metric", "goal", "unit", "source", "type"]
RuleKind = Literal[
    "threshold",
    "aggregate",
    "change",
    "zscore",
    "non_finite",
    "plateau",
    "divergence",
    "throughput",
    "stale",
    "run_state",
    "straggler",
    "desync",
    "disagreement",
]
# An alert that training code raised by itself is no rule's.
AlertKind = RuleKind | Literal["code"]
Operator = Literal["<", "<=", ">", ">=", "==", "!=", ""]
Aggregate = Literal["min", "max", "mean", "median", "last", ""]
Measure = Literal["relative", "absolute", "value", "interval", ""]
Direction = Literal["up", "down", "either", ""]
Goal = Literal["min", "max", ""]
Severity = Literal["info", "warning", "critical"]
AlertState = Literal["firing", "resolved"]
# late and silenced alerts page nobody; unrouted ones name no channel that there is.
DeliveryOutcome = Literal["delivered", "failed", "late", "silenced", "unrouted"]


# Versions of a writer's last state, told by whoever shipped all of its journal, are at least this; those of heartbeats, and of what is guessed from their absence, are below.
FINAL_VERSION = 1 << 62


def _no_text() -> Mapping[str, str]:
    return {}


def _no_counts() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Run:
    """One change of what users say of a run; None says nothing, and the latest change of each field holds. `metadata` values are JSON text."""

    run_id: str
    writer: int
    seq: int
    time_ms: int
    project: str
    name: str | None = None
    owner: str | None = None
    namespace: str | None = None
    external_id: str | None = None
    framework: str | None = None
    task: str | None = None
    notes: str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, str] = field(default_factory=_no_text)


@dataclass(frozen=True, slots=True)
class Writer:
    """State of one process that logs, and the account of what it logged; of several with one `writer`, the greatest `version` holds."""

    writer: int
    run_id: str
    project: str
    version: int
    kind: WriterKind
    rank: int
    local_rank: int
    world_size: int
    node: str
    host: str
    pid: int
    attempt: str
    started_ms: int
    state: State
    exit_reason: str
    heartbeat_ms: int
    next_seq: int
    rows_logged: int
    points_logged: int
    points_dropped: Mapping[str, int] = field(default_factory=_no_counts)
    rows_shipped: int = 0
    points_shipped: int = 0
    environment: Mapping[str, str] = field(default_factory=_no_text)


# The two types of a frame are named tuples: making a frozen dataclass takes four times as long, and these are made for every frame on the way.
class MetricGroup(NamedTuple):
    """The R log calls of a frame that shared one list of K names: `seqs`, `steps`, `times` are int64[R], `values` is float64[R, K]."""

    context: str
    subject: str
    keys: tuple[str, ...]
    seqs: NDArray[int64]
    steps: NDArray[int64]
    times: NDArray[int64]
    values: NDArray[float64]


class MetricFrame(NamedTuple):
    """All rows that one writer logged in [first_seq, next_seq); a frame without groups accounts for records of other kinds."""

    run_id: str
    writer: int
    started: int
    attempt: str
    rank: int
    node: str
    project: str
    first_seq: int
    next_seq: int
    rules_seen: int
    groups: tuple[MetricGroup, ...]

    @property
    def points(self) -> int:
        """Number of values in the frame."""
        return sum(group.values.size for group in self.groups)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a moment. `run_id` is empty for events without a run; `metadata` values are JSON text."""

    event_id: str
    run_id: str
    writer: int
    seq: int
    time_ms: int
    name: str
    rank: int = 0
    source: str = ""
    subject: str = ""
    step: int | None = None
    metadata: Mapping[str, str] = field(default_factory=_no_text)


@dataclass(frozen=True, slots=True)
class Param:
    """One value of one parameter, as JSON text (NaN, Infinity and -Infinity by name)."""

    run_id: str
    writer: int
    seq: int
    time_ms: int
    key: str
    kind: ParamKind
    value: str
    rank: int = 0
    context: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """A typed value that is no point of a numeric series. `value` is JSON text; `data` has the bytes, or the elements of a tensor of `dtype` and `shape` in C order.

    Where the role is said of metrics, `name` is what is said (such as the unit `s`) and `value` the list of their names.
    """

    run_id: str
    writer: int
    seq: int
    time_ms: int
    name: str
    role: ValueRole
    kind: ValueKind
    value: str = ""
    rank: int = 0
    context: str = ""
    subject: str = ""
    step: int | None = None
    dtype: str = ""
    shape: Sequence[int] = ()
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """One rich value. `value` is JSON text and `data` an image's bytes, or both are in the artifact store under `uri`; a line has `points`, whose steps are `steps` or counted on."""

    run_id: str
    writer: int
    seq: int
    time_ms: int
    name: str
    kind: MediaKind
    rank: int = 0
    context: str = ""
    subject: str = ""
    step: int | None = None
    series: str = ""
    replaces: bool = False
    counted: bool = False
    steps: Sequence[int] = ()
    points: Sequence[float] = ()
    value: str = ""
    mime_type: str = ""
    data: bytes | None = None
    uri: str = ""
    checksum: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, folder, model or data set that a run made or used. `metadata` values are JSON text; a `size` of -1 is unknown."""

    artifact_id: str
    run_id: str
    writer: int
    seq: int
    time_ms: int
    kind: ArtifactKind
    relation: ArtifactRelation
    name: str
    path: str = ""
    uri: str = ""
    mime_type: str = ""
    checksum: str = ""
    size: int = -1
    parent: str = ""
    project: str = ""
    rank: int = 0
    context: str = ""
    subject: str = ""
    step: int | None = None
    metadata: Mapping[str, str] = field(default_factory=_no_text)


@dataclass(frozen=True, slots=True)
class Rule:
    """One version of an alert rule. Empty selectors and `rank=None` select everything; `metric` may be a pattern with * and ?. docs/rules.md says what the rest means."""

    rule_id: str
    version: int
    time_ms: int
    name: str
    kind: RuleKind
    metric: str
    run_id: str = ""
    project: str = ""
    context: str = ""
    rank: int | None = None
    operator: Operator = ""
    threshold: float | None = None
    severity: Severity = "warning"
    text: str = ""
    channels: Sequence[str] = ()
    writer: int = 0
    ordinal: int = 0
    deleted: bool = False
    seq: int = -1
    active_ms: int = 0
    clear: float | None = None
    for_s: float = 0.0
    cooldown_s: float = 0.0
    aggregate: Aggregate = ""
    window: int = 0
    window_s: float = 0.0
    baseline: int = 0
    measure: Measure = ""
    direction: Direction = ""
    goal: Goal = ""
    states: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=_no_text)


@dataclass(frozen=True, slots=True)
class Silence:
    """One version of a silence, or with `alert_id` of an acknowledgement: alerts that it matches notify nobody. Empty selectors match everything; `ends_ms=0` is for ever."""

    silence_id: str
    version: int
    time_ms: int
    author: str
    comment: str
    starts_ms: int
    ends_ms: int
    alert_id: str = ""
    rule_id: str = ""
    run_id: str = ""
    project: str = ""
    metric: str = ""
    labels: Mapping[str, str] = field(default_factory=_no_text)
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """An Avro schema under its id."""

    schema_id: int
    name: str
    version: int
    schema: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One transition of an alert. `writer` and `seq` name the row that opened the episode; step, time and value are of this transition's row, `baseline` is what
    the value was compared with where the rule computes it."""

    alert_id: str
    version: int
    state: AlertState
    rule_id: str
    rule_version: int
    rule_name: str
    kind: AlertKind
    severity: Severity
    run_id: str
    writer: int
    seq: int
    rank: int
    metric: str
    context: str
    subject: str
    step: int
    time_ms: int
    value: float
    operator: Operator
    threshold: float | None
    text: str
    late: bool
    decided_ms: int
    channels: Sequence[str] = ()
    project: str = ""
    labels: Mapping[str, str] = field(default_factory=_no_text)
    baseline: float | None = None
    opened_ms: int = 0
    silence: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one transition of an alert on one channel; `channel` is empty where nobody was to be notified. It carries neither addresses nor secrets."""

    alert_id: str
    version: int
    channel: str
    way: str
    outcome: DeliveryOutcome
    reason: str
    message_id: str
    alerts: int
    tries: int
    run_id: str
    rule_id: str
    severity: Severity
    state: AlertState
    time_ms: int
    taken_ms: int
    done_ms: int


@dataclass(frozen=True, slots=True)
class Digest:
    """What the first stage says of some writers of one run: three lists in parallel sequences, of writers, of tracks, and of items that point into both."""

    run_id: str
    project: str
    writers: Sequence[int]
    ranks: Sequence[int]
    states: Sequence[str]
    attempts: Sequence[str]
    starts: Sequence[int]
    heartbeats: Sequence[int]
    world_sizes: Sequence[int]
    rule_ids: Sequence[str]
    rule_versions: Sequence[int]
    metrics: Sequence[str]
    contexts: Sequence[str]
    subjects: Sequence[str]
    tracks: Sequence[int]
    places: Sequence[int]
    blocks: Sequence[int]
    figures: Sequence[float]
    times: Sequence[int]


@dataclass(frozen=True, slots=True)
class SummaryFrame:
    """Per series of one writer, in parallel sequences: what its rows below `next_seq` come to; see the schema's field docs."""

    run_id: str
    writer: int
    block: int
    next_seq: int
    rank: int
    attempt: str
    started: int
    time_ms: int
    names: Sequence[str]
    contexts: Sequence[str]
    subjects: Sequence[str]
    counts: Sequence[int]
    non_finites: Sequence[int]
    sums: Sequence[float]
    means: Sequence[float]
    m2s: Sequence[float]
    mins: Sequence[float]
    min_steps: Sequence[int]
    maxs: Sequence[float]
    max_steps: Sequence[int]
    firsts: Sequence[float]
    first_steps: Sequence[int]
    lasts: Sequence[float]
    last_steps: Sequence[int]
    first_times: Sequence[int]
    last_times: Sequence[int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be stored: raw bytes, place and reason. The reason never carries the record's values."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    value: bytes
    sha256: str
    reason: str
    key: bytes | None = None
    schema_id: int | None = None
    worker: str = ""
    set_aside_ms: int = 0


Record = Run | Writer | MetricFrame | Event | Param | Value | Media | Artifact | Rule | Silence | Schema | Alert | Delivery | Digest | SummaryFrame | DeadLetter
