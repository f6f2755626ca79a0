"""What each variant tells apart and what it confuses, on the test split."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ablation.analysis.params import ReportParams
from ablation.analysis.runs import missing_file, read_evaluations


class Classes(NamedTuple):
    """Two tidy tables, classes by name, in the order of the data.

    accuracy: variant, seed, class, accuracy. confusion: variant, label, prediction, count (over seeds).
    """

    accuracy: pd.DataFrame
    confusion: pd.DataFrame


def read_classes(params: ReportParams, folder: Path) -> Classes:
    """Of every variant in the study. Raises InvalidInput where a file or a seed is missing."""
    accuracy, confusion = [], []
    for variant in params.variants:
        evaluations = read_evaluations(folder / variant / "evaluation/metrics.json", params.seeds)
        for seed in params.seeds:
            for name, share in evaluations[seed]["test"]["per_class_accuracy"].items():
                accuracy.append({"variant": variant, "seed": seed, "class": name, "accuracy": share})
        path = folder / variant / "evaluation/confusion.csv"
        try:
            counts = pd.read_csv(path)
        except FileNotFoundError:
            raise missing_file(path) from None
        counts.insert(0, "variant", variant)
        confusion.append(counts)
    return Classes(pd.DataFrame(accuracy), pd.concat(confusion, ignore_index=True))
