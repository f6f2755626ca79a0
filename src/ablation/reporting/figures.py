"""The figures, as Altair charts.

Error bars of accuracies that the tables also give are the tables' 95 % confidence intervals. In sweeps and learning
curves, error bars and bands are ± one standard deviation over seeds. With one seed there are none.
"""

from collections.abc import Callable, Mapping
from typing import Any

import altair as alt
import pandas as pd

from ablation.analysis.comparisons import Comparisons
from ablation.analysis.differences import mean_interval
from ablation.analysis.params import ReportParams
from ablation.reporting import cost, forest
from ablation.reporting.comparison_tables import claim_texts
from ablation.reporting.style import COLORS, CROSS, DASHES, FAINT, ONE_SEED, SHAPES, WHOLE, by_split, finish
from ablation.reporting.tables import accuracy_rows, data_name
from ablation.reporting.words import max_seeds, seeds_per_variant

CHANCE = 0.1  # accuracy of a guess among ten classes
SMALLEST_RANGE = 0.05  # of an accuracy axis, so that noise does not look like an effect
FEW_EPOCHS = 10  # up to here, lines have point markers
SPLITS = ["test", "val"]
RUNNING = "Training: running mean over the epoch's batches, with augmentation and dropout where the variant has them."


def all_figures(
    params: ReportParams,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    points: pd.DataFrame,
    compared: Comparisons,
    num_images: Mapping[str, int],
) -> dict[str, alt.TopLevelMixin]:
    """The figures of results/figures, by name; `points`: of all sweeps."""
    charts = {
        "learning_curves": learning_curves(runs, curves, params.label),
        "accuracy": accuracy_by_variant(runs, num_images, params.label),
        "cost": cost.cost(runs, params.label),
    }
    claimed = claim_texts(params.comparisons)
    for name, group in forest.groups(compared.rows).items():
        charts[name] = forest.forest(group, claimed, params.label)
    for name in points["sweep"].unique():
        charts[f"sweep_{name}"] = sweep(points[points["sweep"] == name], params.label)
    return charts


def learning_curves(runs: pd.DataFrame, curves: pd.DataFrame, label: str, columns: int = 5) -> alt.TopLevelMixin:
    """Training and validation accuracy by epoch, one panel per variant in the order of `runs`.

    A line is the mean over seeds. Where a seed diverged, each seed has a line of its own: the mean over the remaining
    seeds would jump where one drops out.
    """
    lines = curve_lines(runs, curves)
    header = alt.Header(title=None, labelAnchor="start", labelFontWeight="bold", labelPadding=4)
    header.labelExpr = "split(datum.label, '\\n')"
    panel = alt.Facet("panel:N", sort=lines["panel"].drop_duplicates().to_list(), header=header)
    chart = _curve_panel(lines).facet(panel, columns=columns, spacing={"row": 62, "column": 28}, bounds="flush")
    caption = f"Accuracy by epoch, {seeds_per_variant(runs)} per variant"
    if lines["low"].notna().any():
        caption += ": mean, and a band of ± 1 standard deviation"
    if lines["diverged"].any():
        caption += ". × the seed diverged"
        caption += "; its variant's seeds have a line each" if max_seeds(runs) > 1 else ""
    return finish(
        chart.resolve_scale(x="independent"),
        f"Learning curves: {data_name(label)}",
        [f"{caption}.", RUNNING, "In each heading: validation accuracy at the best epoch."],
    )


def accuracy_by_variant(
    runs: pd.DataFrame, num_images: Mapping[str, int], label: str, on_page: bool = False
) -> alt.TopLevelMixin:
    """Test and validation accuracy of every variant, best mean validation accuracy first.

    On the page it is as wide as its container, and without the numbers at its right, which the page's table has.
    """
    seeds, means = _accuracies(runs, ["variant"])
    means = means.merge(_intervals(seeds, num_images))
    cells = accuracy_rows(runs, num_images)
    order = [row["variant"] for row in cells]
    columns = [
        ([row["test accuracy, %"] for row in cells], COLORS["test"], 572),
        ([row["val accuracy, %"] for row in cells], COLORS["val"], 646),
        ([row["notes"] for row in cells], "black", 720),
    ]
    y = alt.Y(
        "variant:N", sort=order, title=None, axis=alt.Axis(grid=True, ticks=False, labelPadding=8, bandPosition=0.5)
    )
    scale, rules = _accuracy_axis(means, seeds, alt.X)
    channels: dict[str, Any] = {
        "y": y,
        "yOffset": alt.YOffset("split:N", sort=SPLITS, scale=alt.Scale(paddingOuter=0.5)),
        "color": by_split(alt.Color, COLORS, SPLITS),
    }
    base = alt.Chart(means).encode(**channels)
    chart = alt.layer(
        *rules,
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.5, clip=True)  # with two seeds it may reach beyond 0 or 100 %
        .encode(x=scale("low"), x2="high:Q"),
        alt.Chart(seeds).mark_point(**ONE_SEED).encode(x=scale("accuracy"), **channels),
        base.mark_point(filled=True, size=45, opacity=1).encode(
            x=scale("mean"), shape=by_split(alt.Shape, SHAPES, SPLITS)
        ),
        *(
            alt.Chart(pd.DataFrame({"variant": order, "text": texts}))
            .mark_text(align="left", fontSize=10, color=color)
            .encode(x=alt.value(x), y=y, text="text:N")
            for texts, color, x in ([] if on_page else columns)
        ),
    ).properties(width="container" if on_page else 560, height=24 * len(order))
    return finish(
        chart,
        f"Accuracy by variant: {data_name(label)}",
        _marks(runs, "95 % confidence interval") + ("" if on_page else " In percent at the right."),
    )


def sweep(points: pd.DataFrame, label: str, on_page: bool = False) -> alt.TopLevelMixin:
    """Accuracy against the setting of one sweep on a log axis: `points` are its rows of tables.sweep_points.

    0 is set apart at the left, and no line leads to it. On the page it is as wide as its container.
    """
    seeds, means = _accuracies(points, ["variant", "value", "position"])
    means["low"], means["high"] = means["mean"] - means["std"], means["mean"] + means["std"]
    title = points["title"].iloc[0]
    x = _log_axis(points, title)
    scale, layers = _accuracy_axis(means, seeds, alt.Y)
    if points["value"].min() == 0:
        apart = pd.DataFrame({"position": [points["position"].min() * 10**0.5]})
        layers.append(alt.Chart(apart).mark_rule(strokeDash=[2, 3], color=FAINT).encode(x=x))
    for split, shift in (("val", -5), ("test", 5)):
        color = by_split(alt.Color, COLORS, SPLITS)
        base = alt.Chart(means[means["split"] == split]).encode(x=x, color=color)
        dots = alt.Chart(seeds[seeds["split"] == split]).encode(x=x, y=scale("accuracy"), color=color)
        layers += [
            base.transform_filter("datum.value > 0")
            .mark_line(strokeWidth=1.5, opacity=0.6, xOffset=shift)
            .encode(y=scale("mean")),
            base.transform_filter("isValid(datum.low)")
            .mark_rule(strokeWidth=1.5, xOffset=shift, clip=True)
            .encode(y=scale("low"), y2="high:Q"),
            dots.mark_point(**ONE_SEED, xOffset=shift),
            base.mark_point(filled=True, size=60, opacity=1, xOffset=shift).encode(
                y=scale("mean"), shape=by_split(alt.Shape, SHAPES, SPLITS)
            ),
        ]
        if seeds["diverged"].any():
            crosses = dots.transform_filter("datum.diverged").mark_point(**CROSS, xOffset=shift)
            layers.append(crosses.encode(color=alt.value("black")))
    return finish(
        alt.layer(*layers).properties(width="container" if on_page else 520, height=300),
        f"{title}: {data_name(label)}",
        _marks(points, "± 1 standard deviation") + (" × the seed diverged." if seeds["diverged"].any() else ""),
    )


def _curve_panel(lines: pd.DataFrame) -> Any:
    """Bands, lines and crosses of `curve_lines`."""
    accuracy: dict[str, Any] = {
        "title": None,
        "scale": alt.Scale(domain=[0, float(pd.concat([lines["accuracy"], lines["high"]]).max())], nice=True),
        "axis": alt.Axis(format="%", tickCount=5),
    }
    epochs = alt.Axis(tickCount=4, grid=False, labelExpr=WHOLE)
    base = alt.Chart(lines).encode(
        x=alt.X("epoch:Q", title=None, scale=alt.Scale(zero=True), axis=epochs),
        y=alt.Y("accuracy:Q", **accuracy),
        color=by_split(alt.Color, COLORS, ["val", "train"]),
        detail="line:N",
    )
    bands = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.25)
    curves = base.mark_line(point={"size": 14} if lines["epoch"].max() <= FEW_EPOCHS else False)
    crosses = base.transform_filter("datum.diverged").mark_point(**CROSS)
    return alt.layer(
        bands.encode(y=alt.Y("low:Q", **accuracy), y2="high:Q"),
        curves.encode(
            strokeDash=by_split(alt.StrokeDash, DASHES, ["val", "train"]),
            strokeWidth=alt.condition("datum.line == 'mean'", alt.value(1.8), alt.value(0.9)),
        ),
        crosses.encode(color=alt.value("black")),
    ).properties(width=150, height=110)


def curve_lines(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """What to draw: one row per panel, split, line (the mean, or a seed) and epoch."""
    values = curves.rename(columns={"train_accuracy": "train", "val_accuracy": "val"}).melt(
        ["variant", "seed", "epoch"], ["train", "val"], var_name="split", value_name="accuracy"
    )
    values = values.merge(runs[["variant", "seed", "diverged_epoch"]], on=["variant", "seed"]).dropna(subset="accuracy")
    values["diverged"] = values["diverged_epoch"].notna()
    apart = values.groupby("variant")["diverged"].transform("any")
    values["line"] = values["seed"].astype(str).where(apart, "mean")
    keys = ["variant", "split", "line"]
    groups = values.groupby([*keys, "epoch"], sort=False)
    lines = groups.agg(
        accuracy=("accuracy", "mean"), sd=("accuracy", "std"), diverged=("diverged", "any")
    ).reset_index()
    lines["low"], lines["high"] = lines["accuracy"] - lines["sd"], lines["accuracy"] + lines["sd"]
    is_last = lines["epoch"] == lines.groupby(keys)["epoch"].transform("max")
    lines["diverged"] &= is_last & (lines["split"] == "val")
    means = runs.groupby("variant")["val_accuracy"].mean()
    return lines.assign(panel=lines["variant"] + "\n" + lines["variant"].map(lambda name: f"{100 * means[name]:.2f} %"))


def _accuracies(runs: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies by split: of each seed; and their mean and standard deviation over seeds."""
    seeds = (
        runs.assign(diverged=runs["diverged_epoch"].notna())
        .rename(columns={"val_accuracy": "val", "test_accuracy": "test"})
        .melt([*by, "seed", "diverged"], ["val", "test"], var_name="split", value_name="accuracy")
    )
    means = seeds.groupby([*by, "split"], sort=False)["accuracy"].agg(["mean", "std"]).reset_index()
    return seeds, means


def _log_axis(points: pd.DataFrame, title: str) -> alt.X:
    """A log axis with a tick at each value of a sweep, 0 at the left."""
    smallest = points["value"].where(points["value"] > 0).min()
    return alt.X(
        "position:Q",
        title=f"{title} (log scale{'; 0 apart' if points['value'].min() == 0 else ''})",
        scale=alt.Scale(type="log", nice=False, padding=24),
        axis=alt.Axis(
            values=sorted(points["position"].unique()),
            labelExpr=f"datum.value < {smallest} ? '0' : format(datum.value, '.3~g')",
            grid=False,
        ),
    )


def _accuracy_axis(
    means: pd.DataFrame, seeds: pd.DataFrame, channel: Any
) -> tuple[Callable[[str], Any], list[alt.Chart]]:
    """The encoding of an accuracy and, where a seed comes near chance level, a line that marks it."""
    values = pd.concat([seeds["accuracy"], means["low"], means["high"]])
    near_chance = bool(seeds["accuracy"].min() < 2 * CHANCE)
    low, high = 0 if near_chance else values.min(), values.max()
    margin = max(0, (SMALLEST_RANGE - (high - low)) / 2)
    domain = [max(0, low - margin), min(1, high + margin)]
    axis = {"title": "accuracy", "scale": alt.Scale(domain=domain, nice=True), "axis": alt.Axis(format="%")}
    chance = alt.Chart(pd.DataFrame({"chance": [CHANCE]})).encode(channel("chance:Q", **axis))
    text: dict[str, Any] = {"text": "chance", "color": "#666", "fontSize": 10, "dy": -7}
    rules = [
        chance.mark_rule(strokeDash=[2, 3], color=FAINT),
        chance.mark_text(**text).encode(y=alt.value(0))
        if channel is alt.X
        else chance.mark_text(**text, align="left").encode(x=alt.value(4)),
    ]
    return lambda field: channel(f"{field}:Q", **axis), rules if near_chance else []


def _intervals(seeds: pd.DataFrame, num_images: Mapping[str, int]) -> pd.DataFrame:
    """The 95 % confidence intervals of the tables, by variant and split."""
    rows = []
    for (variant, split), group in seeds.groupby(["variant", "split"], sort=False):
        low, high = mean_interval(group["accuracy"].to_numpy(), 1 / num_images[str(split)]) or (None, None)
        rows.append({"variant": variant, "split": split, "low": low, "high": high})
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def _marks(runs: pd.DataFrame, bar: str) -> str:
    if max_seeds(runs) == 1:
        return "One seed per variant, so no error bars."
    return f"Large point: mean over {seeds_per_variant(runs)}; error bar: {bar}; small point: one seed."
