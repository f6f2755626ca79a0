"""Charts of one or two variants that a reader of the page chooses, with the page's own input elements."""

from typing import Any

import altair as alt
import pandas as pd

from ablation.analysis.classes import Classes
from ablation.reporting.figures import FEW_EPOCHS, RUNNING, curve_lines
from ablation.reporting.style import COLORS, CROSS, DASHES, ONE_SEED, WHOLE, by_split, finish
from ablation.reporting.tables import data_name
from ablation.reporting.words import max_seeds, seeds_per_variant

SHOWN = ["#0072b2", "#d55e00"]  # the first and the second variant chosen
COLUMNS = "(height < 300 ? 6 : height < 450 ? 4 : 3)"  # of images: the page's style makes a narrow chart taller


def of_chosen(rows: pd.DataFrame) -> alt.Chart:
    """The `rows` of the variants that the parameters `first` and `second` name, coloured by which of the two it is."""
    names = alt.Legend(
        title=None, orient="top", columns=1, symbolType="stroke", labelExpr="datum.label == 'first' ? first : second"
    )
    return (
        alt.Chart(rows)
        .transform_filter("datum.variant == first || datum.variant == second")
        .transform_calculate(chosen="datum.variant == first ? 'first' : 'second'")
        .encode(color=alt.Color("chosen:N", scale=alt.Scale(domain=["first", "second"], range=SHOWN), legend=names))
    )


def curves(
    runs: pd.DataFrame, series: pd.DataFrame, label: str, first: alt.Parameter, second: alt.Parameter
) -> alt.TopLevelMixin:
    """Learning curves, as by figures.learning_curves, of the two variants that `first` and `second` choose."""
    lines = curve_lines(runs, series).drop(columns=["panel", "sd"])
    for column in ("accuracy", "low", "high"):
        lines[column] = lines[column].round(4)
    y: dict[str, Any] = {"title": None, "scale": alt.Scale(zero=False), "axis": alt.Axis(format="%")}
    base = of_chosen(lines).encode(
        x=alt.X("epoch:Q", axis=alt.Axis(grid=False, labelExpr=WHOLE)), detail=["line:N", "split:N"]
    )
    caption = "One seed per variant, so no error band."
    if max_seeds(runs) > 1:
        caption = f"Mean over {seeds_per_variant(runs)}, and a band of ± 1 standard deviation."
        caption += " A variant of which a seed diverged has a line for each." if lines["diverged"].any() else ""
    caption += " × the seed diverged." if lines["diverged"].any() else ""
    caption += f" {RUNNING}"
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("variant", "split", "epoch")]
    tooltip.append(alt.Tooltip("accuracy:Q", format=".2%"))
    chart = alt.layer(
        base.transform_filter("isValid(datum.low)").mark_area(opacity=0.2).encode(y=alt.Y("low:Q", **y), y2="high:Q"),
        base.mark_line(strokeWidth=1.6).encode(
            y=alt.Y("accuracy:Q", **y), strokeDash=by_split(alt.StrokeDash, DASHES, ["val", "train"]), tooltip=tooltip
        ),
        base.transform_joinaggregate(epochs="max(epoch)", groupby=["variant"])
        .transform_filter(f"datum.epochs <= {FEW_EPOCHS}")
        .mark_point(filled=True, size=24, opacity=1)
        .encode(y=alt.Y("accuracy:Q", **y), tooltip=tooltip),
        base.transform_filter("datum.diverged").mark_point(**CROSS).encode(y=alt.Y("accuracy:Q", **y)),
    )
    return finish(
        chart.add_params(first, second).properties(width="container", height=320),
        f"Accuracy by epoch: {data_name(label)}",
        caption,
    )


def per_class(classes: Classes, label: str, variant: alt.Parameter) -> alt.TopLevelMixin:
    """Test accuracy by class of the variant that the parameter `variant` chooses."""
    order = classes.accuracy["class"].drop_duplicates().to_list()
    base = (
        alt.Chart(classes.accuracy)
        .transform_filter("datum.variant == variant")
        .encode(y=alt.Y("class:N", sort=order, title=None, axis=alt.Axis(grid=True, bandPosition=0.5)))
    )
    x: dict[str, Any] = {"title": None, "scale": alt.Scale(domain=[0, 1]), "axis": alt.Axis(format="%", tickCount=5)}
    means = base.transform_aggregate(mean="mean(accuracy)", groupby=["class"])
    dots = base.mark_point(**(ONE_SEED | {"size": 22}), color=COLORS["test"])
    points = means.mark_point(filled=True, size=70, opacity=1, color=COLORS["test"])
    chart = alt.layer(
        dots.encode(x=alt.X("accuracy:Q", **x)),
        points.encode(x=alt.X("mean:Q", **x), tooltip=["class:N", alt.Tooltip("mean:Q", format=".2%")]),
    )
    return finish(
        chart.add_params(variant).properties(width="container", height=300),
        f"Test accuracy by class: {data_name(label)}",
        "Large point: mean over seeds; small point: one seed.",
    )


def confusion(classes: Classes, label: str, variant: alt.Parameter) -> alt.TopLevelMixin:
    """Row-normalised confusion matrix on the test images, of the variant that the parameter `variant` chooses."""
    counts = classes.confusion
    order = counts["label"].drop_duplicates().to_list()
    totals = counts.groupby(["variant", "label"])["count"].transform("sum")
    cells = counts.assign(share=(counts["count"] / totals).round(4))
    base = (
        alt.Chart(cells)
        .transform_filter("datum.variant == variant")
        .encode(
            x=alt.X("prediction:N", sort=order, title="prediction", axis=alt.Axis(labelAngle=-45)),
            y=alt.Y("label:N", sort=order, title="label"),
        )
    )
    scale = alt.Scale(type="sqrt", domain=[0, 1], range=["#ffffff", "#08306b"], interpolate="rgb")
    tooltip = ["label:N", "prediction:N", "count:Q", alt.Tooltip("share:Q", format=".1%")]
    ink = alt.condition("datum.share > 0.37", alt.value("white"), alt.value("#222"))
    chart = alt.layer(
        base.mark_rect().encode(color=alt.Color("share:Q", scale=scale, legend=None), tooltip=tooltip),
        base.transform_filter("datum.share >= 0.005")
        .transform_calculate(percent="format(100 * datum.share, '.0f')")
        .mark_text(fontSize=10)
        .encode(text="percent:N", color=ink),
    )
    return finish(
        chart.add_params(variant).properties(width="container", height=320),
        f"Confusion matrix: {data_name(label)}",
        "Percent of the test images of each label (rows), all seeds together; cells below 0.5 % are blank.",
    )


def mistakes(classes: Classes, label: str, variant: alt.Parameter) -> alt.TopLevelMixin:
    """The most confident mistakes on test images, of the variant that the parameter `variant` chooses."""
    base = (
        alt.Chart(classes.mistakes)
        .transform_filter("datum.variant == variant")
        .transform_calculate(
            column=f"datum.rank % {COLUMNS}",
            row=f"floor(datum.rank / {COLUMNS})",
            percent="format(datum.confidence, '.1%')",
            url="'data:image/jpeg;base64,' + datum.jpeg",
        )
        .transform_calculate(
            words="[datum.label, '→ ' + datum.prediction, datum.percent]",
            told="'Test image ' + datum.index + ': ' + datum.label + ', taken for ' + datum.prediction"
            " + ' with a confidence of ' + datum.percent + ', seed ' + datum.seed",
        )
        .encode(x=alt.X("column:O", axis=None), y=alt.Y("row:O", axis=None), description="told:N")
    )
    images = base.mark_image(width=64, height=64, smooth=False, yOffset=-24).encode(url="url:N", tooltip="told:N")
    chart = alt.layer(images, base.mark_text(lineHeight=14, dy=24, fontSize=12).encode(text="words:N"))
    return finish(
        chart.add_params(variant).properties(width="container", height="container").configure_scale(bandPaddingInner=0),
        f"The most confident mistakes: {data_name(label)}",
        "Test images, their label → the prediction, and the highest confidence of any seed's network.",
    )
