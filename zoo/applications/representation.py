"""How much a code tells about classes: linear probes, with many labels and with few, and clustering.

A linear classifier on a frozen code, a probe (arXiv:1610.01644), measures how well the code separates classes
linearly. Baselines are principal components of the same dimension, and the pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from zoo.metrics.checks import finite_rows, same_dimension

Kind = Literal["logistic_regression", "linear_svm"]

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # C, the weight of the errors beside that of the norm
HELD_OUT = 0.2
MIN_LABELS = 5  # labels of each class from which a fifth can be held out
DEFAULT_STRENGTH = 0.1  # C where there are fewer
RESTARTS = 10  # of k-means; the best one counts

# The SVM in its primal form: nothing in it is drawn, and it converges with few rows and with many.
KINDS: dict[Kind, Callable[[float], Any]] = {
    "logistic_regression": lambda strength: LogisticRegression(C=strength, max_iter=5_000),
    "linear_svm": lambda strength: LinearSVC(C=strength, dual=False),
}


@dataclass(frozen=True)
class Probe:
    """A linear classifier: its accuracy on the test rows, and the C that was chosen for it."""

    accuracy: float
    strength: float


@dataclass(frozen=True)
class FewLabels:
    """Accuracy with so many labels of each class: one per seed, their mean, their standard deviation (ddof 1)."""

    labels: int
    accuracies: tuple[float, ...]
    mean: float
    deviation: float


@dataclass(frozen=True)
class Clusters:
    """How well clusters match the classes; 1 is best, and random clusters have an adjusted_rand of 0 on average.

    Args:
        adjusted_rand: index of pairs that are together or apart in both, less what chance gives.
        mutual_information: divided by the mean of the two entropies, 0 to 1.
        accuracy: share of the rows in the cluster of their class, under the matching of clusters and classes that is
            best.
    """

    adjusted_rand: float
    mutual_information: float
    accuracy: float


def flatten(images: np.ndarray) -> np.ndarray:
    """(count, ...) -> (count, dimension) float32: uint8 images as brightness from 0 to 1, others as they are."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    return rows / np.float32(255) if images.dtype == np.uint8 else rows


def fit_principal_components(train: np.ndarray, dimension: int) -> PCA:
    """The linear code of so many numbers with the least squared error on `train`, (count, features); has `transform`.

    Raises:
        ValueError: more numbers than rows or features.
    """
    finite_rows(train, "training rows", least=2)
    if not 1 <= dimension <= min(train.shape):
        raise ValueError(f"dimension={dimension}: rows of {train.shape} have 1 to {min(train.shape)} components.")
    return PCA(dimension, svd_solver="covariance_eigh" if len(train) > train.shape[1] else "full").fit(train)


def fit_linear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    kind: Kind = "logistic_regression",
    seed: int = 0,
) -> Probe:
    """Accuracy of a linear classifier on `test`.

    Features are brought to mean 0 and deviation 1 of the training side. C is the one of `STRENGTHS` with the best
    accuracy on a fifth of the training side, drawn by class; with it the classifier is fitted to all of that side.

    Args:
        train: (count, dimension) float.
        train_labels: (count,) integers, at least 5 of each class.
        test: likewise, other rows.
        test_labels: of classes that training shows.
        kind: "logistic_regression", all classes in one softmax; "linear_svm", each class against all others.
        seed: of the fifth.

    Raises:
        ValueError: shapes that do not fit, NaN, fewer than two classes or too few labels of one, another kind.
    """
    _require_fitting_rows(train, train_labels, test, test_labels, kind)
    fewest = int(np.unique(train_labels, return_counts=True)[1].min())
    if fewest < MIN_LABELS:
        raise ValueError(f"{fewest} training labels of one class: give at least {MIN_LABELS}, or use few_labels.")
    scaler = StandardScaler().fit(train)
    fitted, strength = _fit(scaler.transform(train), train_labels, kind, seed)
    return Probe(float(fitted.score(scaler.transform(test), test_labels)), strength)


def probe_few_labels(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    counts: Sequence[int] = (1, 10, 100),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    kind: Kind = "logistic_regression",
) -> list[FewLabels]:
    """The probe's accuracy when it is given so many labels of each class, drawn anew for each seed.

    Unlabeled images are plenty, so the features' means and deviations are those of all training rows.
    C is chosen as in `fit_linear_probe` from 5 labels of each class on; with fewer it is 0.1.

    Args:
        train, train_labels, test, test_labels, kind: as in `fit_linear_probe`.
        counts: labels of each class.
        seeds: at least two.

    Raises:
        ValueError: as in `fit_linear_probe`; a class with fewer labels than are to be drawn; one seed.
    """
    _require_fitting_rows(train, train_labels, test, test_labels, kind)
    if len(set(seeds)) < 2:
        raise ValueError(f"seeds={tuple(seeds)}: give at least two, for a deviation.")
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    results = []
    for count in counts:
        accuracies = []
        for seed in seeds:
            rows = draw_labeled_rows(train_labels, count, seed)
            fitted, _ = _fit(train[rows], train_labels[rows], kind, seed)
            accuracies.append(float(fitted.score(test, test_labels)))
        results.append(
            FewLabels(count, tuple(accuracies), float(np.mean(accuracies)), float(np.std(accuracies, ddof=1)))
        )
    return results


def draw_labeled_rows(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Numbers of `count` rows of each class, (classes * count,), without repetition; a function of the seed.

    Raises:
        ValueError: a class has fewer rows.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    if not 1 <= count <= sizes.min():
        raise ValueError(f"{count} labels of each class: give 1 to {sizes.min()}, what the rarest class has.")
    random = np.random.default_rng(seed)
    return np.concatenate([random.choice(np.flatnonzero(labels == each), count, replace=False) for each in classes])


def cluster(codes: np.ndarray, labels: np.ndarray, seed: int = 0) -> Clusters:
    """k-means with as many clusters as classes, in the codes' own scale, against the classes.

    Args:
        codes: (count, dimension) float.
        labels: (count,) integers of at least two classes, which k-means does not see.
        seed: of the ten starts.

    Raises:
        ValueError: shapes that do not fit, NaN, one class.
    """
    classes = _find_classes(codes, labels, "codes")
    with threadpool_limits(1):
        return compare_clusters(KMeans(len(classes), n_init=RESTARTS, random_state=seed).fit_predict(codes), labels)


def compare_clusters(found: np.ndarray, labels: np.ndarray) -> Clusters:
    """Clusters, however they were found, against the classes.

    Args:
        found: (count,) integers, such as the likeliest component of a mixture; of clusters that no class is matched
            with, no row counts for the accuracy.
        labels: (count,) integers.

    Raises:
        ValueError: of scikit-learn, where they are not as many.
    """
    counts = contingency_matrix(labels, found)  # (classes, clusters)
    return Clusters(
        float(adjusted_rand_score(labels, found)),
        float(normalized_mutual_info_score(labels, found)),
        float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels)),
    )


def find_most_activating(codes: np.ndarray, count: int) -> np.ndarray:
    """For each unit the rows in which it is highest, in falling order: (dimension, count) row numbers.

    Raises:
        ValueError: NaN; a count below 1 or above the number of rows.
    """
    finite_rows(codes, "codes")
    if not 1 <= count <= len(codes):
        raise ValueError(f"count={count}: there are {len(codes)} rows of codes.")
    return np.argsort(-codes, axis=0, kind="stable")[:count].T


def find_best_inputs(kernel: np.ndarray) -> np.ndarray:
    """The input of norm 1 that activates each unit of one dense layer most, W_j / |W_j|  (CS294A notes, section 4).

    kernel: (inputs, units), no unit's weights all 0. Returns (units, inputs).

    Raises:
        ValueError: NaN, or a unit whose weights are all 0.
    """
    norms = np.linalg.norm(finite_rows(kernel, "rows of weights"), axis=0)
    if not norms.all():
        raise ValueError(f"units {np.flatnonzero(norms == 0).tolist()} have no weight but 0: no input activates them.")
    return (kernel / norms).T


def _fit(features: np.ndarray, labels: np.ndarray, kind: Kind, seed: int) -> tuple[Any, float]:
    """The classifier fitted to all rows, and its C."""
    chosen = np.unique(labels, return_counts=True)[1].min() >= MIN_LABELS
    search = GridSearchCV(
        KINDS[kind](DEFAULT_STRENGTH),
        {"C": STRENGTHS},
        cv=StratifiedShuffleSplit(n_splits=1, test_size=HELD_OUT, random_state=seed),
    )
    # One thread: the same digits everywhere; on shared cores, threads that wait for each other took 30 times as long.
    with threadpool_limits(1):
        fitted = (search if chosen else KINDS[kind](DEFAULT_STRENGTH)).fit(features, labels)
    return fitted, float(search.best_params_["C"]) if chosen else DEFAULT_STRENGTH


def _require_fitting_rows(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, kind: Kind
) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose from {sorted(KINDS)}.")
    known = _find_classes(train, train_labels, "training rows")
    finite_rows(test, "test rows", least=1)
    same_dimension(train, test, "rows")
    _require_integers(test, test_labels, "test rows")
    unknown = np.setdiff1d(test_labels, known)
    if len(unknown):
        raise ValueError(f"test rows of the classes {unknown.tolist()}: training shows only {known.tolist()}.")


def _find_classes(rows: np.ndarray, labels: np.ndarray, what: str) -> np.ndarray:
    """The classes there are, sorted, once rows and labels are known to fit."""
    finite_rows(rows, what, least=2)
    _require_integers(rows, labels, what)
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(f"{what} of the class {classes.tolist()} alone: give at least two classes.")
    return classes


def _require_integers(rows: np.ndarray, labels: np.ndarray, what: str) -> None:
    if labels.shape != (len(rows),) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels {labels.shape} {labels.dtype} of {len(rows)} {what}: give one integer a row.")
