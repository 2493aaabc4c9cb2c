"""Cross-validation with scikit-learn: a run for the search, a child run for each fold, arrays as values, and the best score in the summary.

pip install scikit-learn; python examples/scikit_learn.py
"""

from __future__ import annotations

from typing import Any

import runstream
from runstream import Context

FOLDS = 3
STRENGTHS = (0.01, 1.0)


def main() -> None:
    """Searches the regularisation of a logistic regression on digits."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    images, labels = load_digits(return_X_y=True)
    search: dict[str, Any] = {"model": "LogisticRegression", "folds": FOLDS, "strengths": list(STRENGTHS)}
    with runstream.init(project="examples", name="scikit-learn", framework="scikit-learn", task="classification", config=search) as run:
        run.log_event("dataset_loaded", subject="dataset/digits/1", metadata={"images": len(images), "features": images.shape[1]})
        run.define_metric("accuracy", goal="max")
        best = 0.0
        for number, strength in enumerate(STRENGTHS):
            scores: list[float] = []
            for fold, (train, test) in enumerate(StratifiedKFold(FOLDS).split(images, labels)):
                with run.child(f"C-{strength:g}-fold-{fold}", config={"C": strength, "fold": fold}) as part:
                    model = LogisticRegression(C=strength, max_iter=200)
                    with part.timed("fit", source="scikit-learn"):
                        model.fit(images[train] / 16.0, labels[train])
                    scores.append(model.score(images[test] / 16.0, labels[test]))
                    part.log({"accuracy": model.score(images[train] / 16.0, labels[train])}, step=0, context=Context.TRAINING)
                    part.log({"accuracy": scores[-1], "coefficients": model.coef_}, step=0, context=Context.VALIDATION)
            mean = sum(scores) / len(scores)
            run.log({"accuracy": mean, "C": strength}, step=number, context=Context.VALIDATION)
            best = max(best, mean)
        run.summary["best_accuracy"] = best
    print(f"run {run.id}: best mean accuracy {best:.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
