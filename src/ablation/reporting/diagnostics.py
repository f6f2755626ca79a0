"""What the networks look like inside and how they got there: a table of measures, charts of weights and gradients."""

from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from ablation.analysis.diagnostics import CONVERGED, LEARNED, LEVELS
from ablation.analysis.layers import Layers
from ablation.reporting.explorers import of_chosen
from ablation.reporting.style import WHOLE, finish
from ablation.reporting.tables import data_name

NEVER = 1e9  # sort key of a variant that never got there
WHEN = {"start": "at initialisation", "later": "second half of training"}
DASHES = [[3, 3], [1, 0]]


class Measure(NamedTuple):
    """A column of runs in the table: `scale` times the value, formatted by `form`."""

    column: str
    heading: str
    scale: float
    form: str
    meaning: str
    missing: str = ""  # shown where no seed has a value


MEASURES = [
    Measure("train_accuracy", "train accuracy, %", 100, ".2f", "of the best weights, on training images that are "
            "not augmented"),
    Measure("plateau", "plateau, %", 100, ".2f", "validation accuracy, mean over the last quarter of the epochs"),
    Measure("instability", "instability, nats", 1, ".3f", "standard deviation of the batches' losses within an epoch, "
            "mean over the last quarter of the epochs"),
    Measure("dead_units", "dead units, %", 100, ".2f", "hidden units that pass no gradient on any validation image: "
            "ReLUs whose pre-activation is never above zero"),
    Measure("sparsity", "weights near zero, %", 100, ".2f", "weights below a thousandth of their layer's largest"),
    Measure("batch_norm_mean", "BN mean", 1, ".4f", "mean over channels of the absolute mean of batch norm's output "
            "over a batch"),
    Measure("batch_norm_mean_normalized", "BN mean before affine", 1, ".1e", "the same before batch norm's scale and "
            "shift"),
    Measure("gradient_imbalance_start", "gradient imbalance at the start", 1, ".2f", "by how many powers of ten the "
            "weight-gradient norms of the first and the last convolution differ, at initialisation"),
    Measure("gradient_imbalance", "gradient imbalance", 1, ".2f", "the same at the start of each later epoch, mean "
            "over the second half of them"),
    Measure("activation_bytes", "activations, KiB", 1 / 1024, ",.1f", "what the forward pass of one image keeps for "
            "the backward pass, in float32"),
    Measure("epochs_to_converge", "epochs to converge", 1, ".1f", f"the first at {100 * CONVERGED:.0f} % of the run's "
            f"own best validation accuracy, of runs that exceed {100 * LEARNED:.0f} %"),
    *(
        Measure(f"epochs_to_{100 * level:.0f}", f"epochs to {100 * level:.0f} %", 1, ".1f", "", "never")
        for level in LEVELS
    ),
]  # fmt: skip
REACHED = "the first with that validation accuracy, mean over the seeds that reached it"


class Cell(NamedTuple):
    text: str
    note: str  # how many of the seeds have a value, where not all have
    order: float | None  # None: nothing to sort by


def measures(runs: pd.DataFrame) -> list[Measure]:
    """Those of MEASURES that any run has a value of."""
    return [measure for measure in MEASURES if measure.column in runs and runs[measure.column].notna().any()]


def row(runs: pd.DataFrame, shown: list[Measure]) -> list[Cell]:
    """The cells of one variant: mean over those of its seeds that have a value, ± standard deviation."""
    return [_cell(runs[measure.column].astype(float), measure) for measure in shown]


def meanings(shown: list[Measure]) -> dict[str, str]:
    """Heading -> meaning; the headings of the accuracy levels share one entry."""
    told = {measure.heading.partition(",")[0]: measure.meaning for measure in shown if measure.meaning}
    levels = [measure.heading for measure in shown if not measure.meaning]
    return told | ({f"{levels[0]} and so on": REACHED} if levels else {})


def weights(layers: Layers, label: str, first: alt.Parameter, second: alt.Parameter) -> alt.TopLevelMixin:
    """Distribution of weight magnitudes of the two variants that the parameters `first` and `second` choose."""
    rows = layers.weights.groupby(["variant", "low", "high"], sort=False)["share"].mean().round(5).reset_index()
    rows["size"] = (10 ** ((rows["low"] + rows["high"]) / 2)).round(9)
    x = alt.X(
        "size:Q",
        title="magnitude relative to the layer's largest (log scale)",
        scale=alt.Scale(type="log", domain=[1e-6, 1]),
        axis=alt.Axis(format=".0e", values=[10.0**k for k in range(-6, 1)], grid=False),
    )
    tooltip = ["variant:N", alt.Tooltip("size:Q", format=".1e"), alt.Tooltip("share:Q", format=".2%")]
    chart = (
        of_chosen(rows[["variant", "size", "share"]])
        .mark_line(point={"size": 16})
        .encode(x=x, y=alt.Y("share:Q", title="share of the weights", axis=alt.Axis(format="%")), tooltip=tooltip)
    )
    return finish(
        chart.add_params(first, second).properties(width="container", height=300),
        f"Weight magnitudes: {data_name(label)}",
        "Five bins per decade, mean over seeds, without biases; the first bin also holds smaller weights and zeros.",
    )


def gradients(layers: Layers, label: str, first: alt.Parameter, second: alt.Parameter) -> alt.TopLevelMixin:
    """Norm of the weight gradient by depth, of the two variants that the parameters `first` and `second` choose."""
    means = layers.gradients.groupby(["variant", "depth", "layer"], sort=False)[list(WHEN)].mean().reset_index()
    rows = means.melt(["variant", "depth", "layer"], list(WHEN), var_name="when", value_name="norm")
    rows = rows[rows["norm"] > 0].replace({"when": WHEN})
    rows["norm"] = rows["norm"].map(lambda norm: float(f"{norm:.4g}"))
    dash: Any = alt.StrokeDash(
        "when:N",
        scale=alt.Scale(domain=list(WHEN.values()), range=DASHES),
        legend=alt.Legend(title=None, orient="top", columns=1, symbolType="stroke", symbolStrokeColor="#444"),
    )
    x = alt.X("depth:Q", title="layer, from the first", axis=alt.Axis(grid=False, labelExpr=WHOLE, tickMinStep=1))
    y = alt.Y("norm:Q", title="norm (log scale)", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g", tickCount=5))
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("variant", "layer", "when")]
    tooltip.append(alt.Tooltip("norm:Q", format=".3~g"))
    base = of_chosen(rows).encode(x=x, y=y, tooltip=tooltip)
    chart = alt.layer(base.mark_line().encode(strokeDash=dash), base.mark_point(filled=True, size=24, opacity=1))
    return finish(
        chart.add_params(first, second).properties(width="container", height=300),
        f"Weight-gradient norm by layer: {data_name(label)}",
        "Gradient of the loss of an epoch's first batch with respect to the weights of the convolutions and fully "
        "connected layers along the main path; mean over seeds and over those epochs.",
    )


def _cell(values: "pd.Series[float]", measure: Measure) -> Cell:
    known = values.dropna()
    if known.empty:
        return Cell(measure.missing, "", NEVER if measure.missing else None)
    text = format(measure.scale * known.mean(), measure.form)
    if known.nunique() > 1:
        text += f" ± {measure.scale * known.std():{measure.form}}"
    note = "" if len(known) == len(values) else f"{len(known)} of {len(values)} seeds"
    return Cell(text, note, float(known.mean()))
