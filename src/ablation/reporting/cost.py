"""What an accuracy costs: parameters, multiply-adds, training time and speed."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ablation.reporting.style import COLORS, FAINT, finish
from ablation.reporting.tables import data_name

MEASURES = {  # column of runs -> what it is
    "multiply_adds": "multiply-adds to evaluate one image",
    "parameters": "parameters",
    "seconds": "seconds of training, one seed",
    "images_per_second": "images per second in training",
}
NAME_WIDTH = 0.08  # fraction of the axis


def cost(runs: pd.DataFrame, label: str, measure: alt.Parameter | None = None) -> alt.TopLevelMixin:
    """Mean test accuracy against one of MEASURES on a log axis; a line joins the Pareto front.

    On the page the parameter `measure` chooses the cost, and the chart is as wide as its container; elsewhere the cost
    is the multiply-adds.
    """
    on_page = measure is not None
    measure = measure or alt.param(name="measure", value="multiply_adds")
    base = alt.Chart(_points(runs)).transform_filter("datum.measure == measure")
    x = alt.X(
        "value:Q",
        title=None if on_page else MEASURES["multiply_adds"],
        scale=alt.Scale(type="log", nice=False, padding=20),
        axis=alt.Axis(format="~s", tickCount=4, grid=False),
    )
    y = alt.Y(
        "accuracy:Q",
        title="test accuracy",
        scale=alt.Scale(zero=False, nice=True, padding=12),
        axis=alt.Axis(format="%"),
    )
    tooltip = [
        alt.Tooltip("variant:N"),
        alt.Tooltip("accuracy:Q", format=".2%", title="test accuracy"),
        alt.Tooltip("value:Q", format=",.4~g", title="cost"),
    ]
    best = base.transform_filter("datum.best")
    look: dict[str, Any] = {"color": FAINT, "strokeDash": [3, 3], "strokeWidth": 1}
    lines = [  # at the best accuracy for at most this cost: of points to the left or, where more is cheaper, the right
        best.transform_filter("datum.measure != 'images_per_second'").mark_line(interpolate="step-after", **look),
        best.transform_filter("datum.measure == 'images_per_second'").mark_line(interpolate="step-before", **look),
    ]
    names = [
        best.transform_filter(f"datum.named && datum.left == {str(left).lower()}")
        .mark_text(align="left" if left else "right", dx=7 if left else -7, dy=-8, fontSize=11)
        .encode(x=x, y=y, text="variant:N")
        for left in (True, False)
    ]
    points = base.mark_point(filled=True, size=60, opacity=0.8, color=COLORS["test"]).encode(tooltip=tooltip)
    chart = alt.layer(*(layer.encode(x=x, y=y) for layer in (*lines, points)), *names)
    return finish(
        chart.add_params(measure).properties(width="container" if on_page else 560, height=320),
        f"Cost and accuracy: {data_name(label)}",
        "Point: a variant's mean over seeds. Line: the Pareto front, variants that no cheaper one beats on the test "
        "images; named where there is room. Log scale.",
    )


def _points(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per variant and measure, but for the seconds of a variant with diverged runs, which ended early.

    `best`: on the Pareto front, so no cheaper variant is as accurate; `named`: on it, and the next better one is not so
    near that their names would overlap; `left`: in the left half of the axis, so its name goes to the right.
    """
    means = runs.groupby("variant", sort=False)[["test_accuracy", *MEASURES]].mean().reset_index()
    diverged = runs.loc[runs["diverged_epoch"].notna(), "variant"]
    means.loc[means["variant"].isin(diverged), "seconds"] = np.nan
    points = means.melt(["variant", "test_accuracy"], list(MEASURES), var_name="measure", value_name="value")
    points = points.rename(columns={"test_accuracy": "accuracy"})
    points = points[points["value"] > 0]  # the axis is logarithmic; this drops NaN as well
    parts = []
    for measure, part in points.groupby("measure", sort=False):
        cheapest_first = part.sort_values(["value", "accuracy"], ascending=[measure != "images_per_second", False])
        running = cheapest_first["accuracy"].cummax()
        best = cheapest_first["accuracy"].gt(running.shift(fill_value=-1.0))
        logs = np.log(cheapest_first["value"])
        apart = logs[best].diff(-1).abs().fillna(np.inf) > NAME_WIDTH * np.ptp(logs)
        middle = (part["value"].min() * part["value"].max()) ** 0.5
        parts.append(
            cheapest_first.assign(
                best=best, named=apart.reindex(best.index, fill_value=False), left=cheapest_first["value"] <= middle
            )
        )
    return pd.concat(parts)
