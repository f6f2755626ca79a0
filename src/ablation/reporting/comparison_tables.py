"""The comparisons as tables, and the words for what is claimed and what was found."""

import dataclasses
from collections.abc import Mapping

import pandas as pd

from ablation.analysis.comparisons import Comparison, Comparisons
from ablation.analysis.params import ComparisonParams, EqualParams, HigherParams, LowerParams, NumberParams
from ablation.analysis.verdicts import RULE

METRICS = {
    "val_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "gap": "train minus val accuracy",
    "first_batch_loss": "in nats",
}
LEGEND = """
Effect: difference from the baseline or, where the study reports a figure of the variant alone, from that figure, with
its 95 % confidence interval over n seeds; in percentage points of accuracy, of a loss in nats. p: after Holm's
correction over the comparisons of its family.
"""


def title_text(row: Comparison) -> str:
    """The title, and the measure unless it is validation accuracy."""
    return row.title if row.metric == "val_accuracy" else f"{row.title} ({METRICS[row.metric]})"


def claim_text(params: ComparisonParams) -> str:
    """What the study claims, in the unit of the metric."""
    scale, unit, digits = (1, "nats", 4) if is_loss(params.metric) else (100, "points", 2)
    match params.claim:
        case HigherParams():
            return "higher"
        case LowerParams():
            return "lower"
        case EqualParams(margin=margin):
            return f"equal within {scale * margin:.{digits}f} {unit}"
        case NumberParams(value=value, tolerance=tolerance):
            sign = "+" if params.baseline is not None else ""
            unit = "%" if params.baseline is None and not is_loss(params.metric) else unit
            return f"{scale * value:{sign}.{digits}f} ± {scale * tolerance:.{digits}f} {unit}"


def effect_text(row: Comparison) -> str:
    """Difference and interval, in points or nats; the difference alone where there is no interval."""
    scale, unit, digits = (1, " nats", 4) if is_loss(row.metric) else (100, "", 2)
    effect = f"{scale * row.difference:+.{digits}f}"
    if row.low is not None and row.high is not None:
        effect += f" [{scale * row.low:+.{digits}f}, {scale * row.high:+.{digits}f}]"
    return effect + unit


def seeds_text(row: Comparison) -> str:
    """Number of seeds: of both where they differ."""
    others = row.num_baseline_seeds
    return str(row.num_seeds) if others in (None, row.num_seeds) else f"{row.num_seeds} and {others}"


def p_text(p: float | None) -> str:
    return "" if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def is_loss(metric: str) -> bool:
    return metric == "first_batch_loss"


def tidy(compared: Comparisons, comparisons: Mapping[str, ComparisonParams]) -> pd.DataFrame:
    """One row per comparison declared, in that order; those left out have the answer `not run` and a note why."""
    rows = {row.name: row.record() for row in compared.rows}
    for name, reason in compared.not_run.items():
        params = comparisons[name]
        rows[name] = {"name": name, **params.model_dump(exclude={"claim"}), "claim": params.claim.name}
        rows[name] |= {"verdict": "not run", "answer": "not run", "note": reason}
    columns = [field.name for field in dataclasses.fields(Comparison)] + ["answer"]
    table = pd.DataFrame([rows[name] for name in comparisons], columns=columns)
    whole = [name for name in columns if name.startswith("num_")] + ["seeds_needed", "test_images"]
    return table.astype(dict.fromkeys(whole, "Int64"))


def markdown(compared: Comparisons, comparisons: Mapping[str, ComparisonParams]) -> str:
    """The section of results/ablation.md."""
    parts = ["\n## Comparisons with what the study claims\n"]
    if compared.rows:
        parts += [_table(compared, comparisons, "pipe"), LEGEND]
    if compared.not_run:
        left_out = [f"- {comparisons[name].title}: {reason}" for name, reason in compared.not_run.items()]
        parts += ["Not run:\n", *left_out, ""]
    return "\n".join([*parts, "### The rule\n", RULE, ""])


def text(compared: Comparisons, comparisons: Mapping[str, ComparisonParams]) -> str:
    """The same table for a terminal, and how many were left out."""
    lines = ["Comparisons with what the study claims"]
    if compared.rows:
        lines += ["", _table(compared, comparisons, "simple")]
    if compared.not_run:
        lines += ["", f"not run: {len(compared.not_run)} of {len(comparisons)}, see results/ablation.md"]
    return "\n".join(lines)


def _table(compared: Comparisons, comparisons: Mapping[str, ComparisonParams], layout: str) -> str:
    rows = [
        {
            "comparison": title_text(row),
            "claim": claim_text(comparisons[row.name]),
            "effect [95 %]": effect_text(row),
            "p (Holm)": p_text(row.p_holm),
            "n": seeds_text(row),
            "answer": row.answer,
            "notes": row.note,
        }
        for row in compared.rows
    ]
    if layout == "simple":
        rows = [{key: cells[key] for key in ("comparison", "claim", "effect [95 %]", "n", "answer")} for cells in rows]
    alignment = ["right" if key in ("effect [95 %]", "p (Holm)", "n") else "left" for key in rows[0]]
    return str(pd.DataFrame(rows).to_markdown(index=False, tablefmt=layout, colalign=alignment, disable_numparse=True))
