"""The comparisons as a forest plot: every effect with its interval, against what the study claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ablation.analysis.comparisons import Comparison
from ablation.analysis.metrics import METRICS
from ablation.reporting.comparison_tables import effect_text, seeds_text, title_text
from ablation.reporting.style import FAINT, VERDICT_COLORS, VERDICT_SHAPES, VERDICTS, finish
from ablation.reporting.tables import data_name

TICKS = [-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100]
SIGNED = "datum.value ? format(datum.value, '+~g') : '0'"
NUMBERS = ["difference", "low", "high", "claim_low", "claim_high"]
SUBTITLE = [
    "Point: difference from the {reference}; error bar: 95 % confidence interval over seeds. Grey band: what the study",
    "claims. Verdicts are corrected for the number of comparisons (Holm), error bars are not.",
]


def groups(rows: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """The comparisons of each forest plot, by the plot's name; none is empty. The others are in the tables only."""
    shares = [row for row in rows if METRICS[row.metric].is_share]
    parts = {
        "forest": [row for row in shares if row.claim != "number" and row.baseline is not None],
        "forest_figures": [row for row in shares if row.claim == "number"],
        "forest_loss": [row for row in rows if row.claim == "number" and row.metric == "first_batch_loss"],
    }
    return {name: part for name, part in parts.items() if part}


def forest(
    rows: Sequence[Comparison], claimed: Mapping[str, str], label: str, on_page: bool = False
) -> alt.TopLevelMixin:
    """Forest plot of `rows`, one of `groups`, from top to bottom: in percentage points, or in nats.

    claimed: the claim in words, by comparison. Points are on a symmetric log axis, linear within a point of zero: one
    study has effects of 0.1 and of 60 points. Each row's name is above its error bar, so that the plot fits a phone.
    """
    losses = not METRICS[rows[0].metric].is_share
    from_figures = rows[0].claim == "number"
    table = _table(rows, claimed, scale=1 if losses else 100)
    axis = _axis(table, losses)
    y = alt.Y("name:N", sort=table["name"].to_list(), axis=None)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("title", "claim", "effect", "seeds", "answer")]
    legend = alt.Legend(
        title=None, orient="top", values=[verdict for verdict in VERDICTS if verdict in set(table["verdict"])]
    )
    color = alt.Color("verdict:N", scale=alt.Scale(domain=VERDICTS, range=VERDICT_COLORS), legend=legend)
    shape = alt.Shape("verdict:N", scale=alt.Scale(domain=VERDICTS, range=VERDICT_SHAPES), legend=legend)
    base = alt.Chart(table).encode(y=y)
    band = base.mark_bar(color="#e4e4e4", height=16, yOffset=8)
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2, yOffset=8)
    points = base.mark_point(filled=True, size=70, opacity=1, yOffset=8)
    names = base.mark_text(align="left", dy=-8, fontSize=11, color="#222")
    effects = base.mark_text(align="right", dy=-8, fontSize=11, color="#222")
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeDash=[2, 3], color=FAINT)
    chart = alt.layer(
        band.encode(x=alt.X("band_low:Q", **axis), x2="band_high:Q"),
        zero.encode(x=alt.X("zero:Q", **axis)),
        bars.encode(x=alt.X("low:Q", **axis), x2="high:Q", color=color),
        points.encode(x=alt.X("difference:Q", **axis), color=color, shape=shape, tooltip=tooltip),
        names.encode(x=alt.value(2), text="title:N"),
        *([] if on_page else [effects.encode(x=alt.value(618), text="effect:N")]),  # on the page, in the table
    ).properties(width="container" if on_page else 620, height=36 * len(table))
    what = "Loss of the first batch" if losses else "Figures" if from_figures else "Effects"
    claims = "reports" if from_figures else "claims"
    subtitle = [line.format(reference="figure reported" if from_figures else "baseline") for line in SUBTITLE]
    return finish(chart, f"{what} against what the study {claims}: {data_name(label)}", subtitle)


def _axis(table: pd.DataFrame, losses: bool) -> dict[str, Any]:
    """The x axis of all layers, wide enough for every number in `table`."""
    domain = _domain(table)
    if losses:
        scale, axis = alt.Scale(domain=domain, nice=False), alt.Axis(labelExpr=SIGNED, tickCount=5)
        return {"title": "nats", "scale": scale, "axis": axis}
    ticks = [tick for tick in TICKS if domain[0] <= tick <= domain[1]]
    return {
        "title": "percentage points (symmetric log scale)",
        "scale": alt.Scale(type="symlog", constant=1, domain=domain, nice=False),
        "axis": alt.Axis(labelExpr=SIGNED, values=ticks, orient="top"),
    }


def _domain(table: pd.DataFrame) -> list[float]:
    numbers = table[NUMBERS].to_numpy(dtype=np.float64)
    least, most = min(0.0, float(np.nanmin(numbers))), max(0.0, float(np.nanmax(numbers)))
    margin = 0.05 * (most - least)
    return [least - margin, most + margin]


def _table(rows: Sequence[Comparison], claimed: Mapping[str, str], scale: int) -> pd.DataFrame:
    """One row per comparison, numbers times `scale`; the band is what the claim allows, to the edge where unbounded."""
    table = pd.DataFrame(
        [
            {
                "name": row.name,
                "title": title_text(row),
                "claim": claimed[row.name],
                "effect": effect_text(row),
                "seeds": seeds_text(row),
                "answer": row.answer,
                "verdict": row.verdict,
                **{key: getattr(row, key) for key in NUMBERS},
            }
            for row in rows
        ]
    )
    table = table.assign(**{key: table[key].astype(float) * scale for key in NUMBERS})
    low, high = _domain(table)
    return table.assign(band_low=table["claim_low"].fillna(low), band_high=table["claim_high"].fillna(high))
