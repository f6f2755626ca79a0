"""Which test images each run got right, of the variants that are compared."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ablation.analysis.differences import BoolArray
from ablation.analysis.params import ReportParams
from ablation.analysis.runs import missing_file
from ablation.common.errors import InvalidInput


class Predictions(NamedTuple):
    """What `comparisons.compare` takes beside the runs."""

    correct: dict[str, BoolArray]  # variant -> [seeds, test images]
    num_images: dict[str, int]  # metric -> images; a gap moves in steps of the validation set's


def read_predictions(params: ReportParams, folder: Path) -> Predictions:
    """Correctness of the variants in the study that a comparison names.

    Raises InvalidInput where a file or a seed is missing, or where two evaluations were not of the same images.
    """
    named = [name for c in params.comparisons.values() for name in (c.variant, c.baseline) if name is not None]
    correct: dict[str, BoolArray] = {}
    sizes: dict[str, int] = {}
    first = None
    for variant in dict.fromkeys(name for name in named if name in params.variants):
        path = folder / variant / "evaluation/predictions.csv"
        right = _read(path)
        first = first or path
        rows = []
        for seed in params.seeds:
            for split in ("val", "test"):
                part = right.get((seed, split))
                if part is None:
                    raise InvalidInput(f"{path}: no seed {seed} of the split {split}; dvc repro evaluates it")
                if sizes.setdefault(split, len(part)) != len(part):
                    raise InvalidInput(
                        f"{path}: seed {seed} has {len(part):,} {split} images and {first} has {sizes[split]:,}; "
                        "predictions on other data do not compare; dvc repro evaluates them again"
                    )
            rows.append(right[seed, "test"])
        correct[variant] = np.stack(rows)
    metrics = {"val_accuracy": "val", "gap": "val", "test_accuracy": "test"}
    return Predictions(correct, {metric: sizes[split] for metric, split in metrics.items() if split in sizes})


def _read(path: Path) -> dict[tuple[int, str], BoolArray]:
    """(seed, split) -> bool [images], in the order of the split."""
    columns = {"seed": "int64", "split": "category", "index": "int64", "label": "int16", "prediction": "int16"}
    try:
        table = pd.read_csv(path, usecols=list(columns), dtype=columns)
    except FileNotFoundError:
        raise missing_file(path) from None
    table["right"] = table["label"] == table["prediction"]
    groups = table.sort_values("index", kind="stable").groupby(["seed", "split"], observed=True)["right"]
    right: dict[Any, BoolArray] = {key: group.to_numpy(dtype=bool) for key, group in groups}
    return right
