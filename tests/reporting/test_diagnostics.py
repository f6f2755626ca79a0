"""The table of diagnostics, and the charts of weights and gradients."""

import math
from typing import Any

import altair as alt
import pandas as pd
import pytest
import vl_convert

from ablation.reporting import diagnostics
from ablation.reporting.page import Report
from tests.reporting.fake_study import LAYERS, VARIANTS

NAN = math.nan


def table(runs: pd.DataFrame) -> dict[str, dict[str, diagnostics.Cell]]:
    """Variant -> column -> cell."""
    shown = diagnostics.measures(runs)
    return {
        str(variant): dict(zip([measure.column for measure in shown], diagnostics.row(mine, shown), strict=True))
        for variant, mine in runs.groupby("variant", sort=False)
    }


def test_cells_are_means_and_deviations_in_their_unit() -> None:
    runs = pd.DataFrame(
        {
            "variant": ["a"] * 3 + ["b"] * 3,
            "sparsity": [0.01, 0.02, 0.03, 0.5, NAN, NAN],
            "activation_bytes": [2048] * 6,
            "batch_norm_mean_normalized": [NAN] * 3 + [1e-9, 2e-9, 3e-9],
            "epochs_to_60": [4.0, 6.0, 5.0, 7.0, 8.0, NAN],
            "epochs_to_70": [9.0, 9.0, 9.0, NAN, NAN, NAN],
            "dead_units": [NAN] * 6,
        }
    )

    cells = table(runs)

    assert list(cells["a"]) == [
        *("sparsity", "batch_norm_mean_normalized", "activation_bytes", "epochs_to_60", "epochs_to_70")
    ]
    assert cells["a"]["sparsity"] == ("2.00 ± 1.00", "", pytest.approx(0.02))
    assert cells["b"]["sparsity"] == ("50.00", "1 of 3 seeds", 0.5)
    assert cells["a"]["activation_bytes"] == ("2.0", "", 2048)
    assert cells["a"]["batch_norm_mean_normalized"] == ("", "", None)
    assert cells["b"]["batch_norm_mean_normalized"][0] == "2.0e-09 ± 1.0e-09"
    assert cells["a"]["epochs_to_60"] == ("5.0 ± 1.0", "", 5)
    assert cells["b"]["epochs_to_60"] == ("7.5 ± 0.7", "2 of 3 seeds", 7.5)
    assert cells["a"]["epochs_to_70"][0] == "9.0"
    assert cells["b"]["epochs_to_70"][0] == "never"
    order = cells["b"]["epochs_to_70"].order
    assert order is not None and order > 1000


def test_every_heading_is_explained() -> None:
    everything = list(diagnostics.MEASURES)
    levels = [measure.heading for measure in everything[-6:]]
    assert levels == [f"epochs to {percent} %" for percent in (40, 50, 60, 70, 80, 90)]

    told = diagnostics.meanings(everything)
    assert list(told) == [
        *(
            measure.heading.removesuffix(", %").removesuffix(", nats").removesuffix(", KiB")
            for measure in everything[:-6]
        ),
        "epochs to 40 % and so on",
    ]
    assert all(told.values())
    assert list(diagnostics.meanings(everything[:1])) == ["train accuracy"]
    assert list(diagnostics.meanings(everything[-3:])) == ["epochs to 70 % and so on"]


def test_the_table_of_a_study(report: Report) -> None:
    cells = table(report.runs)

    assert list(cells) == list(VARIANTS)
    assert cells["simple_nn"]["train_accuracy"].text == "65.00 ± 2.00"
    assert cells["simple_nn"]["sparsity"].text == "2.00 ± 1.00"
    assert cells["lr_1e-0"]["sparsity"] == ("1.00", "1 of 3 seeds", 0.01)
    assert cells["resnet20"]["batch_norm_mean"].text == "0.2500"
    assert cells["simple_nn"]["batch_norm_mean"] == ("", "", None)
    assert cells["l2_0"]["epochs_to_60"] == ("2.0", "", 2)
    assert cells["simple_nn"]["epochs_to_70"].text == "never"
    assert cells["simple_nn"]["gradient_imbalance_start"].text == "0.30"  # log10 of 2: `fc` is no convolution


def drawn(chart: Any) -> list[dict[str, Any]]:
    (rows,) = chart.to_dict()["datasets"].values()
    return list(rows)


def pair(first: str, second: str) -> tuple[alt.Parameter, alt.Parameter]:
    return alt.param(name="first", value=first), alt.param(name="second", value=second)


def test_weights_are_drawn_as_shares_in_the_middle_of_their_bin(report: Report) -> None:
    rows = drawn(diagnostics.weights(report.layers, "digits", *pair("resnet20", "simple_nn")))

    mine = [row for row in rows if row["variant"] == "simple_nn"]
    assert len(mine) == 30
    assert math.log10(mine[0]["size"]) == pytest.approx(-5.9, abs=1e-3)
    assert math.log10(mine[-1]["size"]) == pytest.approx(-0.1, abs=1e-3)
    assert (mine[0]["share"], mine[-1]["share"]) == (0.02, 0.98)  # mean of 1, 2 and 3 %
    assert sum(row["share"] for row in mine) == pytest.approx(1)


def test_gradients_are_drawn_layer_by_layer_at_both_times(report: Report) -> None:
    chart = diagnostics.gradients(report.layers, "digits", *pair("resnet20", "lr_1e-0"))

    rows = [row for row in drawn(chart) if row["variant"] == "resnet20"]
    assert [(row["layer"], row["depth"]) for row in rows] == 2 * list(zip(LAYERS, (1, 2, 3), strict=True))
    assert [row["norm"] for row in rows[:3]] == [1, 2, 3]
    assert [row["norm"] for row in rows[3:]] == pytest.approx([1 / 3, 2 / 3, 1], rel=1e-3)
    labels = vl_convert.vegalite_to_svg(chart.to_dict() | {"width": 400})
    for word in ("at initialisation", "second half of training", "resnet20", "lr_1e-0"):
        assert word in labels


def test_a_norm_that_is_no_number_or_zero_is_left_out_of_the_log_axis(report: Report) -> None:
    gradients = report.layers.gradients.assign(start=0.0)
    rows = drawn(
        diagnostics.gradients(report.layers._replace(gradients=gradients), "digits", *pair("simple_nn", "lr_1e-0"))
    )

    assert {row["when"] for row in rows} == {"second half of training"}
    assert all(row["norm"] > 0 for row in rows)
