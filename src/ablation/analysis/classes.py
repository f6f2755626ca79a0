"""What each variant tells apart and what it confuses, on the test split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ablation.analysis.params import ReportParams
from ablation.analysis.runs import missing_file, read_evaluations
from ablation.common.files import read_json

MISTAKES = ["variant", "rank", "index", "seed", "label", "prediction", "confidence", "jpeg"]


class Classes(NamedTuple):
    """Tidy tables, classes by name, in the order of the data.

    accuracy: variant, seed, class, accuracy. confusion: variant, label, prediction, count (over seeds).
    mistakes: MISTAKES, the most confident first; index is the image's in the split, jpeg the image itself in base64.
    """

    accuracy: pd.DataFrame
    confusion: pd.DataFrame
    mistakes: pd.DataFrame


def read_classes(params: ReportParams, folder: Path) -> Classes:
    """Of every variant in the study. Raises InvalidInput where a file or a seed is missing."""
    accuracy, confusion, mistakes = [], [], []
    for variant in params.variants:
        evaluations = read_evaluations(folder / variant / "evaluation/metrics.json", params.seeds)
        for seed in params.seeds:
            for name, share in evaluations[seed]["test"]["per_class_accuracy"].items():
                accuracy.append({"variant": variant, "seed": seed, "class": name, "accuracy": share})
        counts = _read(folder / variant / "evaluation/confusion.csv", pd.read_csv)
        counts.insert(0, "variant", variant)
        confusion.append(counts)
        ranked = _read(folder / variant / "evaluation/mistakes.json", read_json)
        mistakes += [{"variant": variant, "rank": rank, **entry} for rank, entry in enumerate(ranked)]
    return Classes(
        pd.DataFrame(accuracy), pd.concat(confusion, ignore_index=True), pd.DataFrame(mistakes, columns=MISTAKES)
    )


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except FileNotFoundError:
        raise missing_file(path) from None
