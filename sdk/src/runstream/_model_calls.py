"""The calls of a run that describe and save models, and describe data sets. What libraries there are is `models`' and `datasets`' matter."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runstream import _checks
from runstream._artifact_work import NO_UPLOAD
from runstream._media_calls import MediaCalls
from runstream._params import json_values
from runstream.artifacts import Artifact, Upload
from runstream_producers.journal import values as val
from runstream_producers.journal.compilers import untraced

if TYPE_CHECKING:
    import enum
    from collections.abc import Mapping

    from runstream.artifacts._payloads import About
    from runstream.models._facts import Facts
    from runstream.models._known import Known


class ModelCalls(MediaCalls):
    """Models and data sets of a run."""

    @untraced
    @_checks.guarded(cast("Artifact | None", None))
    def log_model(
        self,
        model: Any,
        name: str = "default",
        *,
        info: bool = True,
        layers: bool = False,
        as_artifact: bool = True,
        context: str | enum.Enum | None = None,
        step: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact | None:
        """Logs what is known of a model: its library and type, and if wanted counts and layers. Nothing of it is run or saved; `save_model_version` does that.

        Args:
            model: a module or state of torch, a model of keras, an estimator of scikit-learn, or a tree of jax arrays.
            name: what it is called.
            info: whether to log how many parameters it has, how many are trained, and the bytes of memory that it takes.
            layers: whether to log its layers, each with name, type, input and output size as far as known without running it, dtype and parameters.
            as_artifact: whether the list of layers goes into the artifact store; otherwise it stands in the record.
            context: a phase.
            step: the step it belongs to, if any.
            metadata: what else is to be said of it, as JSON can hold it.

        Returns:
            What was recorded, with the counts in its `metadata`; None where nothing was.

        Example:
            >>> from sklearn.linear_model import LinearRegression
            >>> fitted = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
            >>> run.log_model(fitted, "line").metadata["parameters"]
            2
        """
        from runstream.models import _known

        called = _checks.name_of("log_model", "name", name, self._report)
        found = _known.known(model) if called else None
        if found is None:
            if called:
                self._refuse("log_model", f"model of log_model must be {_known.TAKEN}, got {val.told(model)}: nothing was recorded")
            return None
        return self._describe(
            called, found.facts(layers), self._about("log_model", context, step, f"model/{called}", metadata), info=info, as_artifact=as_artifact
        )

    def _describe(self, name: str, facts: Facts, about: About, *, info: bool, as_artifact: bool) -> Artifact | None:
        import dataclasses

        from runstream.artifacts._payloads import artifact_of, payload_of

        said: dict[str, Any] = {"framework": facts.framework, "class": facts.type}
        if info:
            said |= {"parameters": facts.parameters, "trainable": facts.trainable, "bytes": facts.bytes}
        listed = [asdict(one) for one in facts.layers]
        place: dict[str, Any] = {}
        if listed and as_artifact and self._journal is not None:
            stored = self._stores.uploads_to.add_bytes(json.dumps(listed).encode())
            place = {"uri": stored.uri, "checksum": stored.checksum, "size": stored.size, "mime_type": "application/json", "path": f"{name}.layers.json"}
        elif listed:
            said["layers"] = listed
        whole = dataclasses.replace(about, metadata={**about.metadata, **json_values("log_model", said, self._report)})
        payload = payload_of(whole, "model", name, **place)
        return artifact_of(payload, whole) if self._record_artifact(payload) else None

    @untraced
    @_checks.guarded(NO_UPLOAD)
    def save_model_version(
        self,
        model: Any,
        name: str,
        context: str | enum.Enum | None = None,
        step: int | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        wait: bool = True,
    ) -> Upload:
        """Saves a model into the artifact store as a version of its name.

        A version's id is the SHA-256 of what is saved, so that ranks and restarts that save the same model mean the same version; versions are numbered from 0 a project and name as they
        are read (view `model_versions`, `runstream.read.model_versions`), in the order in which they were first saved. The model is written to a local file before the call returns.

        Args:
            model: as `log_model` takes it, or the path of a file that holds a saved one. Of torch the state is saved (.pt, tensors in the host's memory), of keras the model (.keras), of
                scikit-learn the estimator (.pkl), of jax the arrays by their paths in the tree (.npz).
            name: what the model is called, without `:`.
            context: a phase, such as `Context.TRAINING`.
            step: the step at which it is saved.
            metadata: what else is to be said of it, as JSON can hold it.
            wait: whether to return only when it is stored; otherwise a thread of the run sends it.

        Returns:
            The upload; the `checksum` of its only artifact is the version's id.

        Example:
            >>> from sklearn.linear_model import LinearRegression
            >>> fitted = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
            >>> [version] = run.save_model_version(fitted, "line", Context.TRAINING, 10).artifacts
            >>> version.subject == f"model/line/{version.checksum}"
            True
        """
        from runstream.models import _known

        called = _checks.name_of("save_model_version", "name", name, self._report)
        if called and (":" in called or "\\" in called or any(one in ("", ".", "..") for one in called.split("/"))):
            self._refuse(
                "save_model_version",
                f"name of save_model_version must be a name such as net or vision/net, without ':', got {val.shown(called)}: nothing was saved",
            )
            called = ""
        if not called:
            return NO_UPLOAD
        is_path = isinstance(model, (str, Path))
        if is_path and not Path(model).is_file():
            self._refuse(
                "save_model_version",
                f"model of save_model_version must be {_known.TAKEN}, or the path of a file, got {val.shown(str(model))}, where no file is",
            )
            return NO_UPLOAD
        found = _known.copy_of(Path(model)) if is_path else _known.known(model)
        if found is None:
            self._refuse(
                "save_model_version", f"model of save_model_version must be {_known.TAKEN}, or the path of a file, got {val.told(model)}: nothing was saved"
            )
            return NO_UPLOAD
        return self._save(called, found, self._about("save_model_version", context, step, "", metadata), wait=wait)

    def _save(self, name: str, model: Known, about: About, *, wait: bool) -> Upload:
        import dataclasses

        from runstream.artifacts._listing import mime_type_of
        from runstream.artifacts._payloads import artifact_of, payload_of
        from runstream_producers.paths import journal_root

        upload = Upload()
        if self._journal is None:
            upload.end()
            return upload
        root = journal_root(self._settings)
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        folder = Path(tempfile.mkdtemp(prefix=f"model-{os.getpid()}-", dir=root))
        # One name for all, since some formats note the name of their file.
        file = folder / f"model{model.ending}"
        try:
            model.save(file)
            facts = model.facts(False)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shown = f"{name.rpartition('/')[2]}{model.ending}"
        said = {"framework": facts.framework, "class": facts.type, "parameters": facts.parameters, "bytes": facts.bytes, "file": shown}
        described = {**about.metadata, **json_values("save_model_version", said, self._report)}

        def work() -> None:
            try:
                stored = self._stores.uploads_to.add_file(file)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            whole = dataclasses.replace(about, subject=f"model/{name}/{stored.checksum}", metadata=described)
            payload = payload_of(
                whole, "model_version", name, path=shown, uri=stored.uri, mime_type=mime_type_of(shown), checksum=stored.checksum, size=stored.size
            )
            if self._record_artifact(payload):
                upload.artifacts.append(artifact_of(payload, whole))

        return self._work("save_model_version", upload, work, wait=wait)

    @untraced
    @_checks.guarded(cast("Artifact | None", None))
    def log_dataset(
        self,
        dataset: Any,
        label: str,
        *,
        context: str | enum.Enum | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact | None:
        """Logs what is known of a data set, without reading it: samples, batches, batch size, workers, whether it is shuffled, columns, shape and dtype, as far as it has them.

        Args:
            dataset: a `DataLoader`, `Subset` or `Dataset` of torch, an array, a table of pandas, a data set of Hugging Face or tensorflow, columns by name, or a list.
            label: what it is called, such as `train`.
            context: a phase that it is for.
            metadata: what else is to be said of it, such as where it comes from, as JSON can hold it.

        Returns:
            What was recorded, with the figures in its `metadata`; None where nothing was.

        Example:
            >>> import numpy
            >>> run.log_dataset(numpy.zeros((100, 8)), "train").metadata["samples"]
            100
        """
        from runstream.artifacts._payloads import artifact_of, payload_of
        from runstream.datasets import _known

        called = _checks.name_of("log_dataset", "label", label, self._report)
        found = _known.facts(dataset) if called else None
        if found is None:
            if called:
                self._refuse("log_dataset", f"dataset of log_dataset must be {_known.TAKEN}, got {val.told(dataset)}: nothing was recorded")
            return None
        about = self._about("log_dataset", context, None, f"dataset/{called}", {**found, **(metadata or {})}, relation="input")
        payload = payload_of(about, "dataset", called)
        return artifact_of(payload, about) if self._record_artifact(payload) else None


def _sweep(root: Path) -> None:
    """Removes what processes have left that were killed while they saved a model."""
    for left in root.glob("model-*-*"):
        pid = left.name.split("-")[1]
        if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
