"""Per-class accuracy, confusion matrix and most confident mistakes of each variant, on the test split."""

import functools
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ablation.analysis.params import ReportParams
from ablation.analysis.runs import read_evaluations, read_required

MISTAKES = ["variant", "rank", "index", "seed", "label", "prediction", "confidence", "jpeg"]


class Classes(NamedTuple):
    """Tidy tables; classes are names, in the dataset's order.

    accuracy: variant, seed, class, accuracy. confusion: variant, label, prediction, count (summed over seeds).
    mistakes: the columns MISTAKES, most confident first; index: of the image in the split; jpeg: the image, in base64.
    """

    accuracy: pd.DataFrame
    confusion: pd.DataFrame
    mistakes: pd.DataFrame


def read_classes(params: ReportParams, folder: Path) -> Classes:
    """The tables of every variant in the study. Raises InvalidInput where a file or a seed is missing."""
    accuracy, confusion, mistakes = [], [], []
    for variant in params.variants:
        seeds = params.seeds[variant]
        evaluations = read_evaluations(folder / variant / "evaluation/metrics.json", seeds)
        for seed in seeds:
            for name, share in evaluations[seed]["test"]["per_class_accuracy"].items():
                accuracy.append({"variant": variant, "seed": seed, "class": name, "accuracy": share})
        # A class may be called NA or null.
        read = functools.partial(pd.read_csv, keep_default_na=False)
        counts = read_required(folder / variant / "evaluation/confusion.csv", read)
        counts.insert(0, "variant", variant)
        confusion.append(counts)
        ranked = read_required(folder / variant / "evaluation/mistakes.json")
        mistakes += [{"variant": variant, "rank": rank, **entry} for rank, entry in enumerate(ranked)]
    return Classes(
        pd.DataFrame(accuracy), pd.concat(confusion, ignore_index=True), pd.DataFrame(mistakes, columns=MISTAKES)
    )
