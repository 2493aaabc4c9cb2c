"""The calls of a run that log rich values: checked here and in `media`, small ones written into the journal, large ones kept in the artifact store and referred to."""

from __future__ import annotations

import base64
import enum
import json
from typing import TYPE_CHECKING, Any

from runstream import _checks, _clock, _secrets
from runstream._artifact_calls import ArtifactCalls
from runstream.artifacts import ArtifactError
from runstream.media import MediaType
from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val
from runstream_producers.journal.compilers import untraced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream.media._types import Line, Value

    AnyContext = str | enum.Enum | None

KINDS = tuple(one.value for one in MediaType)


class MediaCalls(ArtifactCalls):
    """Rich values of a run. Each call takes `step`, `context`, `subject` and `replace` as `log_media` does."""

    _media_time_ms = 0

    @untraced
    @_checks.guarded(None)
    def log_media(
        self,
        name: str,
        data: Any,
        kind: MediaType | str,
        *,
        step: int | None = None,
        context: AnyContext = None,
        subject: str = "",
        replace: bool = False,
        **options: Any,
    ) -> None:
        """Logs a value that is to be shown as more than a number. What it must look like for each kind, the helpers say: `log_line`, `log_bar`, `log_table` and so on.

        Values of more than 16 KiB (setting `media_inline_bytes`) go into the artifact store, and their records refer to them; lines are kept in the tables whole. Where that store is
        another machine's, a thread of the run sends them. Values of more than 256 MiB (setting `media_bytes_max`) are refused whole.

        Args:
            name: what it is called.
            data: the value.
            kind: a `MediaType` or its name, such as `"table"`.
            step: the step it belongs to, if any.
            context: a phase, such as `Context.VALIDATION`.
            subject: what it is about, such as `model/net/3`; the run itself if empty.
            replace: whether it begins a new version of what has this name (and context, subject and rank); earlier versions stay and can be read.
            options: what the helper of its kind takes besides, such as `bins` of a histogram.

        Example:
            >>> run.log_media("scores", {"x": ["cat", "dog"], "y": [0.9, 0.7]}, "bar", step=3)
        """
        shown = _kind_of(kind)
        what = _checks.one_of("log_media", "kind", shown, KINDS, self._report)
        if what:
            self._show(what, name, data, step=step, context=context, subject=subject, replace=replace, **options)

    @untraced
    @_checks.guarded(None)
    def log_value(self, name: str, data: Any, **where: Any) -> None:
        """Logs a single value of any scalar type: bool, int, float, text, None, or one of numpy or a tensor library. The newest is the run's summary value of that name.

        Example:
            >>> run.log_value("verdict", "ready to ship")
        """
        self._show("value", name, data, **where)

    @untraced
    @_checks.guarded(None)
    def log_line(self, name: str, data: Any, **where: Any) -> None:
        """Appends points to a line, or to several.

        Args:
            name: what the line, or the plot of several lines, is called.
            data: a list of numbers, or one number, whose steps go on from the last step of the line, whichever process of this rank logged that, from 0; or
                `{"steps": [n integers], "values": [n numbers]}`; or a mapping of lines' names to either of these, with `"steps"` for all of them if wanted.
            where: `step`, `context`, `subject` and `replace`, as `log_media` has them. A single number is the point at `step`; points of a list are not moved by it.

        Example:
            >>> run.log_line("loss", [0.9, 0.5])
            >>> run.log_line("loss", [0.4])
            >>> run.log_line("losses", {"steps": [0, 10], "train": [0.9, 0.5], "val": [1.0, 0.7]}, replace=True)
        """
        self._show("line", name, data, **where)

    @untraced
    @_checks.guarded(None)
    def log_bar(self, name: str, data: Mapping[str, Any], **where: Any) -> None:
        """Logs bars: `{"x": [n texts or numbers], "y": [n numbers]}`.

        Example:
            >>> run.log_bar("per class", {"x": ["cat", "dog"], "y": [0.9, 0.7]}, step=3)
        """
        self._show("bar", name, data, **where)

    @untraced
    @_checks.guarded(None)
    def log_table(self, name: str, data: Any, **where: Any) -> None:
        """Logs a table, whose cells are scalars: names with values, a list of mappings, columns as lists of one length, `{"columns": [n], "rows": [[n values], ...]}`, or a table of pandas.

        Example:
            >>> run.log_table("params", {"lr": 0.1, "layers": 3})
            >>> run.log_table("mistakes", [{"id": 17, "label": "cat", "guess": "dog"}])
        """
        self._show("table", name, data, **where)

    @untraced
    @_checks.guarded(None)
    def log_heatmap(self, name: str, data: Mapping[str, Any], **where: Any) -> None:
        """Logs a matrix such as a confusion matrix: `{"categories": [n names], "values": matrix}` with a matrix of shape (n, n), or (n + 1, n + 1) whose last row and column are false
        positives and false negatives.

        Example:
            >>> run.log_heatmap("confusion", {"categories": ["cat", "dog"], "values": [[9, 1], [2, 8]]}, step=3)
        """
        self._show("heatmap", name, data, **where)

    @untraced
    @_checks.guarded(None)
    def log_labelmap(self, name: str, data: Mapping[int, str] | Sequence[str], **where: Any) -> None:
        """Logs what the numbers of classes mean: `{0: "cat", 1: "dog"}`, or the names as a list from 0.

        Example:
            >>> run.log_labelmap("labels", ["cat", "dog"])
        """
        self._show("labelmap", name, data, **where)

    @untraced
    @_checks.guarded(None)
    def log_evaluation(self, name: str, data: Any, **where: Any) -> None:
        """Logs what a model found in assets such as images: a mapping an asset, or a list of them, each with `asset` (its name or number) and

        - `boxes`: `{"x", "y", "width", "height"}` each, in the unit that you choose;
        - `polygons`: `{"points": shape (n, 2) with n from 3}` each;
        - `classifications`: `{"label"}` each;

        all with `label` (a text or number) and `score` (a number) where there are any.

        Example:
            >>> box = {"x": 4, "y": 2, "width": 30, "height": 20, "label": "cat", "score": 0.9}
            >>> run.log_evaluation("found", {"asset": "cat-17.png", "boxes": [box]}, step=3)
        """
        self._show("evaluation", name, data, **where)

    @untraced
    @_checks.guarded(None)
    def log_image(self, name: str, data: Any, **where: Any) -> None:
        """Logs an image: the path of a file, its bytes, an image of PIL, or an array.

        Args:
            name: what it is called.
            data: a PNG, JPEG, GIF, WebP, BMP or TIFF as a path or as bytes, which is kept as it is; an image of PIL; or an array of shape (height, width), (height, width, channels) or
                (channels, height, width) with 1, 3 or 4 channels, of integers from 0 to 255, floats from 0 to 1, truth values, or dtype uint16. The last two become PNG.
            where: `step`, `context`, `subject` and `replace`, as `log_media` has them.

        Example:
            >>> run.log_image("noise", [[0.0, 0.5], [0.5, 1.0]], step=3)
        """
        self._show("image", name, data, **where)

    @untraced
    @_checks.guarded(None)
    def log_histogram(self, name: str, data: Any, *, bins: int = 64, **where: Any) -> None:
        """Logs how values are spread: an array of any shape, counted in so many bins; or `{"counts": [n], "edges": [n + 1, rising]}`. NaN and infinities are counted apart.

        Example:
            >>> run.log_histogram("gradients", [0.1, 0.2, 0.2, 0.9], bins=4, step=3)
        """
        self._show("histogram", name, data, bins=bins, **where)

    @untraced
    @_checks.guarded(None)
    def log_text(self, name: str, data: str, **where: Any) -> None:
        """Logs a text of any length.

        Example:
            >>> run.log_text("sample", "Once upon a time ...", step=3)
        """
        self._show("text", name, data, **where)

    # ---- what they share ---------------------------------------------------------------------------------------------------------------

    def _show(self, kind: str, name: Any, data: Any, *, step: Any = None, context: Any = None, subject: Any = "", replace: Any = False, **options: Any) -> None:
        from runstream.media._types import BadValue

        call = f"log_{kind}"
        called = _checks.name_of(call, "name", name, self._report)
        where = _checks.context_of(call, context, self._report)
        about = _checks.text_of(call, "subject", subject, self._report)
        if not called or not (_checks.fits(call, "context", where, self._report) and _checks.fits(call, "subject", about, self._report)):
            return
        if not isinstance(replace, bool):
            self._report(f"{call}:replace", f"replace of {call} must be True or False, got {val.shown(replace)}: it was taken as False")
        strange = [key for key in options if not (kind == "histogram" and key == "bins")]
        if strange:
            self._report(f"{call}:{strange[0]}", f"{call} takes step, context, subject and replace, got {', '.join(map(repr, strange))}: it was left out")
        # Versions are in the order of times, which a clock that is set back must not change.
        self._media_time_ms = max(self._media_time_ms, _clock.now_ms())
        head = {
            "time_ms": self._media_time_ms,
            "name": called,
            "kind": kind,
            "context": where,
            "subject": about,
            "step": _checks.step_of(call, step, self._report),
        }
        try:
            if kind == "line":
                self._append(head, data, replaces=replace is True)
            else:
                self._keep_value(head, self._made(kind, called, data, options), replaces=replace is True)
        except (BadValue, ArtifactError, OSError) as error:
            self._report(f"{call}:{called}", f"{kind} {val.shown(called)} was not logged: {error}")
            return
        if kind == "value":
            self._set_summary(called, _secrets.hidden(called, data))

    def _made(self, kind: str, name: str, data: Any, options: Mapping[str, Any]) -> Value:
        from runstream.media import _images, _shapes
        from runstream.media._types import BadValue, Value

        bytes_max = self._settings.media_bytes_max
        match kind:
            case "value":
                made = _shapes.value(name, data)
            case "image":
                made = _images.image(data, bytes_max)
            case "histogram":
                made = _shapes.histogram(data, options.get("bins", _shapes.BINS))
            case "text":
                if not isinstance(data, str):
                    raise BadValue(f"data of text must be a text, got {val.told(data)}")
                made = Value("text/plain", _secrets.in_text(val.text_of(data)).encode())
            case _:
                shapes = {
                    "bar": _shapes.bar,
                    "table": _shapes.table,
                    "heatmap": _shapes.heatmap,
                    "labelmap": _shapes.labelmap,
                    "evaluation": _shapes.evaluation,
                }
                made = shapes[kind](data)
        if len(made.data) > bytes_max:
            raise _images.too_large(len(made.data), bytes_max)
        return made

    def _keep_value(self, head: Mapping[str, Any], made: Value, *, replaces: bool) -> None:
        payload = {**head, "replaces": replaces, "size": len(made.data), "mime_type": made.mime_type, "value": json.dumps(made.facts) if made.facts else ""}
        if len(made.data) > self._settings.media_inline_bytes:
            if self._journal is None:
                return
            stored = self._stores.keep(made.data)
            payload |= {"uri": stored.uri, "checksum": stored.checksum}
        elif made.mime_type.startswith("image/"):
            payload["data"] = base64.b64encode(made.data).decode()
        else:
            payload["value"] = made.data.decode() if made.mime_type != "text/plain" else json.dumps(made.data.decode(), ensure_ascii=False)
        self._rows.record(fmt.Kind.MEDIA, payload)
        if "uri" in payload and self._stores.owes:
            self._uploads.push_soon()

    def _append(self, head: Mapping[str, Any], data: Any, *, replaces: bool) -> None:
        from runstream.media import _images, _lines

        lines = _lines.lines(data, head["step"])
        size = sum(len(one.points) for one in lines) * _lines.POINT_BYTES
        if size > self._settings.media_bytes_max:
            raise _images.too_large(size, self._settings.media_bytes_max)
        parts: list[Line] = [part for one in lines for part in _lines.pieces(one)]
        for number, part in enumerate(parts):
            counted = part.steps is None
            payload = {
                **head,
                "series": part.series,
                # One call begins one version, however many records it takes.
                "replaces": replaces and number == 0,
                "counted": counted,
                "steps": part.steps or [],
                "points": part.points,
                "size": len(part.points) * _lines.POINT_BYTES,
            }
            self._rows.record(fmt.Kind.MEDIA, payload)


def _kind_of(kind: Any) -> Any:
    return kind.name.lower() if isinstance(kind, enum.Enum) else kind.lower() if isinstance(kind, str) else kind
