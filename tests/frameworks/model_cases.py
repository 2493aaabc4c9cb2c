"""Models and data sets of one framework, described, saved and read back: `python -m tests.frameworks.model_cases FRAMEWORK OUT`. What came of it is written as JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import runstream

Said = dict[str, Any]


def saved(run: runstream.Run, model: Any, name: str) -> tuple[Path, Said]:
    """The file of a version that was saved twice, and what was said of it."""
    [first], [second] = (run.save_model_version(model, name, "training", step).wait() for step in (1, 2))
    return first.download("back"), {"same": first.checksum == second.checksum, "id": first.checksum, "file": first.path, **first.metadata}


def described(run: runstream.Run, model: Any, name: str) -> Said:
    """What `log_model` says, with layers in the record."""
    made = run.log_model(model, name, layers=True, as_artifact=False)
    assert made is not None
    return dict(made.metadata)


def of_torch(run: runstream.Run) -> Said:
    """A network with frozen and shared parameters, a lazy one, a state, and data sets."""
    torch: Any = importlib.import_module("torch")
    data: Any = importlib.import_module("torch.utils.data")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Linear(8, 8))
    net[4].weight = net[3].weight if net[3].weight.shape == net[4].weight.shape else net[4].weight
    net[0].weight.requires_grad_(False)
    file, version = saved(run, net, "net")
    loaded = torch.load(file, weights_only=True)
    pairs: Any = data.TensorDataset(torch.zeros(10, 3), torch.zeros(10))

    class Stream(data.IterableDataset):
        def __iter__(self) -> Any:
            return iter(range(3))

    loaders = {
        "plain": data.DataLoader(pairs, batch_size=4),
        "shuffled": data.DataLoader(pairs, batch_size=4, shuffle=True, drop_last=True, num_workers=2),
        "subset": data.Subset(pairs, [1, 2, 3]),
        "of-subset": data.DataLoader(data.Subset(pairs, [1, 2, 3]), batch_size=2),
        "whole": pairs,
        "stream": data.DataLoader(Stream(), batch_size=2),
        "by-itself": data.DataLoader(pairs, batch_size=None),
    }
    return {
        "net": described(run, net, "net"),
        "lazy": described(run, torch.nn.LazyLinear(3), "lazy"),
        "state": described(run, net.state_dict(), "state"),
        "version": version,
        "state-is-the-same-version": run.save_model_version(net.state_dict(), "state").wait()[0].checksum == version["id"],
        "equal": all(torch.equal(loaded[name], one) for name, one in net.state_dict().items()),
        "datasets": {label: dict(run.log_dataset(one, label).metadata) for label, one in loaders.items()},  # pyright: ignore[reportOptionalMemberAccess]
    }


def of_tensorflow(run: runstream.Run) -> Said:
    """A network of keras, one that was not built, and a data set."""
    keras: Any = importlib.import_module("keras")
    tf: Any = importlib.import_module("tensorflow")
    net = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2, trainable=False)])
    file, version = saved(run, net, "net")
    loaded = keras.models.load_model(file)
    x = np.ones((2, 4), dtype="f4")
    return {
        "net": described(run, net, "net"),
        "unbuilt": described(run, keras.Sequential([keras.layers.Dense(3)]), "unbuilt"),
        "version": version,
        "equal": np.array_equal(loaded.predict(x, verbose=0), net.predict(x, verbose=0)),
        "datasets": {"tf": dict(run.log_dataset(tf.data.Dataset.range(7), "tf").metadata)},  # pyright: ignore[reportOptionalMemberAccess]
    }


def of_jax(run: runstream.Run) -> Said:
    """A tree of parameters as flax has them, with a type that numpy lacks."""
    jnp: Any = importlib.import_module("jax.numpy")
    tree = {"params": {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2, dtype=jnp.bfloat16)}}, "step": 3}
    file, version = saved(run, tree, "net")
    with np.load(file) as loaded:
        arrays = {name: (loaded[name].shape, str(loaded[name].dtype)) for name in loaded.files}
    return {"net": described(run, tree, "net"), "version": version, "arrays": arrays}


def of_sklearn(run: runstream.Run) -> Said:
    """A pipeline, a forest, a network, one that was not fitted, and data sets of numpy and pandas."""
    pandas: Any = importlib.import_module("pandas")
    linear, neural, ensemble, pipe, scale = (
        importlib.import_module(f"sklearn.{name}") for name in ("linear_model", "neural_network", "ensemble", "pipeline", "preprocessing")
    )
    x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    line = linear.LinearRegression().fit(x, y)
    whole = pipe.make_pipeline(scale.StandardScaler(), linear.LogisticRegression()).fit(x, y)
    file, version = saved(run, whole, "whole")
    loaded = importlib.import_module("pickle").loads(file.read_bytes())
    table = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    fields = np.zeros(5, dtype=[("id", "i4"), ("score", "f8")])
    sets = {"array": x, "fields": fields, "table": table, "series": table["a"], "list": [1, 2], "columns": {"a": [1, 2], "b": [3, 4]}}
    return {
        "line": described(run, line, "line"),
        "whole": described(run, whole, "whole"),
        "forest": described(run, ensemble.RandomForestClassifier(3, random_state=0).fit(x, y), "forest"),
        "network": described(run, neural.MLPClassifier((5,), max_iter=1000, random_state=0).fit(x, y), "network"),
        "unfitted": described(run, linear.LinearRegression(), "unfitted"),
        "version": version,
        "equal": bool((loaded.predict(x) == whole.predict(x)).all()),
        "datasets": {label: dict(run.log_dataset(one, label).metadata) for label, one in sets.items()},  # pyright: ignore[reportOptionalMemberAccess]
    }


def of_datasets(run: runstream.Run) -> Said:
    """Data sets of Hugging Face: one, several by split, and one that is read as it comes."""
    library: Any = importlib.import_module("datasets")
    arrow: Any = importlib.import_module("pyarrow")
    one = library.Dataset(library.table.InMemoryTable(arrow.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})), fingerprint="abc")
    sets = {"one": one, "splits": library.DatasetDict(train=one, test=one), "stream": one.to_iterable_dataset()}
    return {label: dict(run.log_dataset(each, label).metadata) for label, each in sets.items()}  # pyright: ignore[reportOptionalMemberAccess]


def of_pil(run: runstream.Run) -> Said:
    """Images of every mode, and PNGs of ours as PIL reads them."""
    pil: Any = importlib.import_module("PIL.Image")
    images: Any = importlib.import_module("runstream.media._images")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    image = pil.fromarray(pixels[:, :, :3])
    made = {mode: images.image(image.convert(mode), 1 << 20) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "F", "I", "YCbCr")}
    [jpeg] = run.log_artifact("a.jpg", image).artifacts
    with pil.open(importlib.import_module("io").BytesIO(made["RGB"].data)) as back:
        same = np.array_equal(np.asarray(back), pixels[:, :, :3])
    ours: dict[int, bool] = {}
    for channels in (1, 3, 4):
        with pil.open(importlib.import_module("io").BytesIO(images.png(pixels[:, :, :channels]))) as back:
            ours[channels] = np.array_equal(np.asarray(back).reshape(20, 30, channels), pixels[:, :, :channels])
    return {"types": sorted({one.mime_type for one in made.values()}), "modes": len(made), "jpeg": jpeg.mime_type, "same": same, "ours": all(ours.values())}


CASES: dict[str, Callable[[runstream.Run], Said]] = {
    "torch": of_torch,
    "tensorflow": of_tensorflow,
    "jax": of_jax,
    "sklearn": of_sklearn,
    "datasets": of_datasets,
    "PIL": of_pil,
}

if __name__ == "__main__":
    os.environ["RUNSTREAM_ARTIFACT_URL"] = str(Path.cwd() / "store")
    with runstream.init("models", id=sys.argv[1], strict=True, capture="none") as started:
        Path(sys.argv[2]).write_text(json.dumps(CASES[sys.argv[1]](started)), encoding="utf-8")
