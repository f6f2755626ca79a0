"""Which test images each run got right, of the variants that are compared."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis.differences import BoolArray
from ablation.analysis.params import ReportParams
from ablation.analysis.runs import read_required
from ablation.common.errors import InvalidInput


def read_predictions(params: ReportParams, folder: Path) -> dict[str, BoolArray]:
    """Variant -> bool [seeds, test images], of the variants in the study that a comparison names.

    Raises InvalidInput where a file or a seed is missing.
    """
    named = [name for c in params.comparisons.values() for name in (c.variant, c.baseline) if name is not None]
    correct: dict[str, BoolArray] = {}
    for variant in dict.fromkeys(name for name in named if name in params.variants):
        path = folder / variant / "evaluation/predictions.csv"
        right = _read(path)
        for seed in params.seeds[variant]:
            if seed not in right:
                raise InvalidInput(f"{path}: no seed {seed}; dvc repro evaluates it")
        correct[variant] = np.stack([right[seed] for seed in params.seeds[variant]])
    return correct


def _read(path: Path) -> dict[int, BoolArray]:
    """Seed -> bool [test images], in the order of the split."""
    columns = {"seed": "int64", "split": "category", "index": "int64", "label": "int16", "prediction": "int16"}
    table = read_required(path, functools.partial(pd.read_csv, usecols=list(columns), dtype=columns))
    table = table[table["split"] == "test"].sort_values("index", kind="stable")
    groups = (table["label"] == table["prediction"]).groupby(table["seed"])
    right: dict[Any, BoolArray] = {seed: group.to_numpy(dtype=bool) for seed, group in groups}
    return right
