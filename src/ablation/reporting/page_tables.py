"""The cells of the page's tables."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ablation.analysis.comparisons import Comparison
from ablation.analysis.metrics import METRICS
from ablation.analysis.params import ReportParams
from ablation.reporting import comparison_tables
from ablation.reporting.tables import accuracy_rows, data_name

PUBLISHED = [  # network, accuracy on the official test set in percent, source
    ("ResNet-20", "91.25", "He et al. 2015, arXiv 1512.03385, table 6"),
    ("ResNet-20 with option A, 200 epochs", "91.73", "akamaster/pytorch_resnet_cifar10"),
    ("ResNet-20", "92.60", "chenyaofo/pytorch-cifar-models"),
    ("airbench94, trained in 2.59 s on an A100", "94.01", "KellerJordan/cifar10-airbench"),
]


def facts(
    params: ReportParams, runs: pd.DataFrame, num_images: Mapping[str, int], provenance: Mapping[str, str]
) -> list[tuple[str, str]]:
    """What was run, by name; `provenance`: from provenance.lines."""
    names = {"train": "training", "val": "validation", "test": "test"}
    known = {
        "data": data_name(params.label),
        "images": ", ".join(f"{num_images[split]:,} {name}" for split, name in names.items()),
        "variants": f"{runs['variant'].nunique()}: {', '.join(runs['variant'].unique())}",
        "seeds": seeds_text(params.seeds),
        **provenance,
        "training time": f"{runs['seconds'].sum() / 60:,.1f} minutes, summed over {len(runs)} runs",
        **{name: ", ".join(map(str, runs[name].unique())) for name in ("device", "precision", "python", "torch")},
        "evaluated on": "; ".join(runs["evaluated_on"].unique()),
    }
    return [(name, value) for name, value in known.items() if value]


def seeds_text(seeds: Mapping[str, list[int]]) -> str:
    """The seeds of most variants, then those of the others, with the variants' names."""
    variants: dict[str, list[str]] = {}
    for variant, own in seeds.items():
        variants.setdefault(", ".join(map(str, own)), []).append(variant)
    (usual, _), *others = sorted(variants.items(), key=lambda item: -len(item[1]))
    return "; ".join([usual, *(f"of {', '.join(names)}: {own}" for own, names in others)])


def ablation_rows(runs: pd.DataFrame, num_images: Mapping[str, int]) -> list[dict[str, Any]]:
    """One row per variant, best first: its name, its notes, and `numbers`: heading -> (text, sort key)."""
    rows = []
    for texts in accuracy_rows(runs, num_images):
        mine = runs[runs["variant"] == texts["variant"]]
        gap, speed = float(mine["gap"].mean()), float(mine["images_per_second"].mean())
        numbers = {
            "n": (texts["n"], len(mine)),
            "val accuracy, %": (texts["val accuracy, %"], float(mine["val_accuracy"].mean())),
            "test accuracy, %": (texts["test accuracy, %"], float(mine["test_accuracy"].mean())),
            "gap, points": (f"{100 * gap:+.2f}", gap),
            "parameters": (texts["parameters"], int(mine["parameters"].iloc[0])),
            "multiply-adds, M": (texts["multiply-adds, M"], int(mine["multiply_adds"].iloc[0])),
            "seconds": (texts["seconds"], float(mine["seconds"].mean())),
            "images/s": (f"{speed:,.0f}", speed),
        }
        rows.append({"variant": texts["variant"], "numbers": numbers, "notes": texts["notes"]})
    return rows


def comparison_row(row: Comparison, params: ReportParams) -> dict[str, Any]:
    """Cells by name, and sort keys of some of them, such as `effect_order`."""
    metric = METRICS[row.metric]
    images = ""
    if row.test_difference is not None:
        images = f"{100 * row.test_difference:+.2f}"
        if row.test_low is not None and row.test_high is not None:
            images += f" [{100 * row.test_low:+.2f},\N{NO-BREAK SPACE}{100 * row.test_high:+.2f}]"
    return {
        "title": comparison_tables.title_text(row),
        "settings": comparison_tables.settings_text(params.comparisons[row.name], params.variants),
        "claim": comparison_tables.claim_text(params.comparisons[row.name]),
        "measured": comparison_tables.measured_text(row),
        "measured_order": row.variant_mean,
        "effect": comparison_tables.effect_text(row),
        "effect_order": row.difference + comparison_tables.shift(row),
        "p": comparison_tables.p_text(row.p_holm),
        "p_order": 2 if row.p_holm is None else row.p_holm,
        "n": comparison_tables.seeds_text(row),
        "answer": row.answer,
        "detectable": "" if row.detectable is None else f"{metric.scale * row.detectable:.{metric.digits}f}",
        "images": images,
        "images_order": "" if row.test_difference is None else row.test_difference,
        "notes": row.note,
    }
