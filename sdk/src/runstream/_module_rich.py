"""Module-level calls for rich values, artifacts, models and data sets, as `_module` has those for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runstream._artifact_work import NO_UPLOAD
from runstream._module import called_on
from runstream_producers.journal.compilers import untraced

if TYPE_CHECKING:
    from runstream.artifacts import Artifact, Upload
    from runstream.media import MediaType


@untraced
def log_media(name: str, data: Any, kind: MediaType | str, **options: Any) -> None:
    """`Run.log_media` on the current run."""
    run = called_on("log_media")
    if run is not None:
        run.log_media(name, data, kind, **options)


@untraced
def upload_artifact(files: Any, **options: Any) -> Upload:
    """`Run.upload_artifact` on the current run."""
    run = called_on("upload_artifact")
    return NO_UPLOAD if run is None else run.upload_artifact(files, **options)


@untraced
def log_artifact(path: Any, value: Any = None, context: Any = None, step: int | None = None, **options: Any) -> Upload:
    """`Run.log_artifact` on the current run."""
    run = called_on("log_artifact")
    return NO_UPLOAD if run is None else run.log_artifact(path, value, context, step, **options)


@untraced
def track_artifact(uris: Any, **options: Any) -> list[Artifact]:
    """`Run.track_artifact` on the current run."""
    run = called_on("track_artifact")
    return [] if run is None else run.track_artifact(uris, **options)


@untraced
def use_artifact(artifact: Any, **options: Any) -> Artifact | None:
    """`Run.use_artifact` on the current run."""
    run = called_on("use_artifact")
    return None if run is None else run.use_artifact(artifact, **options)


@untraced
def log_model(model: Any, name: str = "default", **options: Any) -> Artifact | None:
    """`Run.log_model` on the current run."""
    run = called_on("log_model")
    return None if run is None else run.log_model(model, name, **options)


@untraced
def save_model_version(model: Any, name: str, context: Any = None, step: int | None = None, **options: Any) -> Upload:
    """`Run.save_model_version` on the current run."""
    run = called_on("save_model_version")
    return NO_UPLOAD if run is None else run.save_model_version(model, name, context, step, **options)


@untraced
def log_dataset(dataset: Any, label: str, **options: Any) -> Artifact | None:
    """`Run.log_dataset` on the current run."""
    run = called_on("log_dataset")
    return None if run is None else run.log_dataset(dataset, label, **options)
