"""The comparisons as tables, and the words for what is claimed and what was found."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ablation.analysis.comparability import differences
from ablation.analysis.comparisons import Comparison, Comparisons
from ablation.analysis.metrics import METRICS
from ablation.analysis.params import (
    AtMostParams,
    ComparisonParams,
    EqualParams,
    HigherParams,
    LowerParams,
    NumberParams,
    ReportParams,
)
from ablation.analysis.verdicts import RULE
from ablation.reporting.provenance import change_text
from ablation.reporting.tables import text_table

LEGEND = """
Effect: variant minus baseline; for a reported number, measured minus reported; for an upper bound on a variant alone,
the value itself. With its 95 % confidence interval over n seeds, in percentage points or the unit named. p: after
Holm's correction over the comparisons of its family.
"""
COLUMNS = [field.name for field in dataclasses.fields(Comparison)]
INTEGER_COLUMNS = [name for name in COLUMNS if name.startswith("num_")] + ["seeds_needed", "test_images"]


def title_text(row: Comparison | ComparisonParams) -> str:
    """The title, and the metric unless it is validation accuracy or in the title."""
    words = METRICS[row.metric].words
    return row.title if row.metric == "val_accuracy" or words in row.title else f"{row.title} ({words})"


def claim_text(params: ComparisonParams) -> str:
    """What the study claims, in the unit of the metric."""
    metric = METRICS[params.metric]
    scale, unit, digits = metric.scale, metric.unit, metric.digits
    sign = "+" if params.baseline is not None else ""
    own = "%" if params.baseline is None and metric.is_share else unit
    match params.claim:
        case HigherParams():
            words = "higher"
        case LowerParams():
            words = "lower"
        case EqualParams(margin=margin):
            words = f"equal within {scale * margin:.{digits}f} {unit}"
        case AtMostParams(value=value):
            words = f"at most {scale * value:{sign}.{digits}f} {own}"
        case NumberParams(value=value, tolerance=tolerance):
            words = f"{scale * value:{sign}.{digits}f} ± {scale * tolerance:.{digits}f} {own}"
    return words.strip()


def claim_texts(comparisons: Mapping[str, ComparisonParams]) -> dict[str, str]:
    """`claim_text` of each, by name."""
    return {name: claim_text(params) for name, params in comparisons.items()}


def effect_text(row: Comparison) -> str:
    """Difference and interval, in points or with their unit; the difference alone where there is no interval.

    For an upper bound on a variant alone, the value itself and its interval.
    """
    metric = METRICS[row.metric]
    form = f"{'' if _is_bounded(row) else '+'}z,.{metric.digits}f"  # z: no -0.00
    effect = format(metric.scale * (row.difference + shift(row)), form)
    if row.low is not None and row.high is not None:
        low, high = (format(metric.scale * (bound + shift(row)), form) for bound in (row.low, row.high))
        effect += f" [{low}, {high}]"
    return effect if metric.is_share else f"{effect} {metric.unit}".strip()


def effects(rows: Sequence[Comparison]) -> list[Comparison]:
    """The effects on validation accuracy of variants against their baselines, the largest gain first."""
    found = [row for row in rows if row.metric == "val_accuracy" and row.baseline and row.claim != "number"]
    return sorted(found, key=lambda row: -row.difference)


def effect_rows(rows: Sequence[Comparison], claimed: Mapping[str, str]) -> list[dict[str, str]]:
    """The cells of `effects`, by heading; claimed: the claim in words, by comparison."""
    return [
        {
            "change": row.title,
            "effect on val accuracy, points [95 %]": effect_text(row),
            "n": seeds_text(row),
            "claim": claimed[row.name],
            "verdict": row.answer,
        }
        for row in effects(rows)
    ]


def measured_text(row: Comparison) -> str:
    """The means: of the variant and, where there is one, of the baseline, in percent or in the metric's unit."""
    metric = METRICS[row.metric]
    means = [mean for mean in (row.variant_mean, row.baseline_mean) if mean is not None]
    return " against ".join(f"{metric.scale * mean:,.{metric.digits}f}" for mean in means)


def shift(row: Comparison) -> float:
    """What to add to the difference for the effect that is shown."""
    return row.variant_mean - row.difference if _is_bounded(row) else 0.0


def _is_bounded(row: Comparison) -> bool:
    return row.claim == "at_most" and row.baseline is None


def seeds_text(row: Comparison) -> str:
    """Number of seeds; both numbers where variant and baseline differ."""
    others = row.num_baseline_seeds
    return str(row.num_seeds) if others in (None, row.num_seeds) else f"{row.num_seeds} and {others}"


def p_text(p: float | None) -> str:
    return "" if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def settings_text(params: ComparisonParams, variants: Mapping[str, Mapping[str, Any]]) -> str:
    """The `differences` of the variant from its baseline: "augmentation: none → crop_flip"."""
    if params.baseline is None or not {params.variant, params.baseline} <= set(variants):
        return ""
    found = differences(variants[params.baseline], variants[params.variant])
    return "; ".join(change_text({"name": path, "default": a, "value": b}) for path, (a, b) in found.items())


def tidy(compared: Comparisons, params: ReportParams) -> pd.DataFrame:
    """One row per comparison, as declared, with claim and settings in words; a note says why one is left out."""
    comparisons = params.comparisons
    rows = {row.name: row.record() for row in compared.rows}
    for name, reason in compared.not_run.items():
        left_out = comparisons[name]
        rows[name] = {"name": name, **left_out.model_dump(exclude={"claim"}), "claim": left_out.claim.name}
        rows[name] |= {"verdict": "not run", "answer": "not run", "note": reason}
    table = pd.DataFrame([rows[name] for name in comparisons], columns=[*COLUMNS, "answer"])
    table.insert(COLUMNS.index("claim") + 1, "claimed", list(claim_texts(comparisons).values()))
    settings = [settings_text(comparison, params.variants) for comparison in comparisons.values()]
    table.insert(COLUMNS.index("baseline") + 1, "settings", settings)
    return table.astype(dict.fromkeys(INTEGER_COLUMNS, "Int64"))


def markdown(compared: Comparisons, comparisons: Mapping[str, ComparisonParams]) -> str:
    """The section of results/ablation.md; empty where no comparison is declared."""
    if not comparisons:
        return ""
    parts = ["\n## The claims, and what these runs say\n"]
    if compared.rows:
        parts += [_table(compared, comparisons, "pipe"), LEGEND]
    if compared.not_run:
        left_out = [f"- {title_text(comparisons[name])}: {reason}" for name, reason in compared.not_run.items()]
        parts += ["Not run:\n", *left_out, ""]
    return "\n".join([*parts, "### The rule\n", RULE, ""])


def text(compared: Comparisons, comparisons: Mapping[str, ComparisonParams]) -> str:
    """The same table for a terminal, and how many were left out."""
    if not comparisons:
        return "no comparisons: params.yaml declares none"
    lines = ["The claims, and what these runs say"]
    if compared.rows:
        lines += ["", _table(compared, comparisons, "simple")]
    if compared.not_run:
        lines += ["", f"not run: {len(compared.not_run)} of {len(comparisons)}, see results/ablation.md"]
    return "\n".join(lines)


def cells(row: Comparison, comparisons: Mapping[str, ComparisonParams]) -> dict[str, str]:
    """One row of the table of all comparisons, by heading."""
    return {
        "comparison": title_text(row),
        "claim": claim_text(comparisons[row.name]),
        "effect [95 %]": effect_text(row),
        "p (Holm)": p_text(row.p_holm),
        "n": seeds_text(row),
        "answer": row.answer,
        "notes": row.note,
    }


def _table(compared: Comparisons, comparisons: Mapping[str, ComparisonParams], layout: str) -> str:
    rows = [cells(row, comparisons) for row in compared.rows]
    if layout == "simple":
        rows = [{key: row[key] for key in ("comparison", "claim", "effect [95 %]", "n", "answer")} for row in rows]
    return text_table(rows, layout, right=["effect [95 %]", "p (Holm)", "n"])
