"""A forest of scikit-learn, fitted by threads of joblib."""

from __future__ import annotations

import joblib
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

from throughput import Tally, parse_options, run

TREES = 40
X, Y = make_classification(4000, 20, random_state=0)
options = parse_options(__doc__)


def fit(worker: int, tally: Tally) -> None:
    """Hands trees to the threads of joblib."""
    with joblib.parallel_config(backend="threading", n_jobs=options.threads):
        while tally.go_on():
            RandomForestClassifier(n_estimators=TREES, n_jobs=options.threads).fit(X, Y).predict(X)
            tally.done(TREES)


if __name__ == "__main__":
    run([fit], options, unit="trees", name="fit")
