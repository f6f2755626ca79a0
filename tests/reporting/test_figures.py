"""The figures: what their specifications draw, and that they become pictures."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert
from PIL import Image

from ablation.analysis.runs import Study, read_study
from ablation.reporting import figures, tables
from ablation.reporting.style import COLORS, write_png
from tests.reporting.fake_study import NUM_IMAGES, SWEEPS, VAL, VARIANTS, write_study

SIZES = dict.fromkeys(["train", "val", "test"], NUM_IMAGES)

Rows = list[dict[str, Any]]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read_study(write_study(tmp_path), tmp_path / "runs")


@pytest.fixture
def one_seed(tmp_path: Path) -> Study:
    return read_study(write_study(tmp_path, seeds=(0,)), tmp_path / "runs")


def data_with(chart: Any, *columns: str) -> Rows:
    """The one dataset of a chart that has `columns`."""
    (rows,) = [rows for rows in chart.to_dict()["datasets"].values() if set(columns) <= set(rows[0])]
    return list(rows)


def sweep(study: Study, tmp_path: Path, name: str) -> Any:
    points = tables.sweep_points(write_study(tmp_path / "again"), study.runs)
    return figures.sweep(points[points["sweep"] == name], "digits")


def test_learning_curves_draw_the_mean_and_one_deviation_of_each_variant(study: Study) -> None:
    rows = data_with(figures.learning_curves(*study, "digits"), "epoch", "low")

    assert list(dict.fromkeys(row["variant"] for row in rows)) == list(VARIANTS)
    drawn = [row for row in rows if (row["variant"], row["split"], row["epoch"]) == ("simple_nn", "val", 2)]
    assert [row["line"] for row in drawn] == ["mean"]
    assert drawn[0]["accuracy"] == pytest.approx(0.61)
    assert (drawn[0]["low"], drawn[0]["high"]) == pytest.approx((0.60, 0.62))
    assert {row["panel"] for row in rows if row["variant"] == "simple_nn"} == {"simple_nn\n62.00 %"}


def test_seeds_of_a_variant_of_which_one_diverged_are_drawn_apart_and_crossed(study: Study) -> None:
    rows = data_with(figures.learning_curves(*study, "digits"), "epoch", "low")

    val = [row for row in rows if row["variant"] == "lr_1e-0" and row["split"] == "val"]
    by_line = {line: [row["accuracy"] for row in val if row["line"] == line] for line in ("0", "1", "2")}
    assert by_line == {str(seed): accuracies for seed, accuracies in VAL["lr_1e-0"].items()}
    assert all(row["low"] is None for row in val)
    assert [(row["line"], row["epoch"]) for row in rows if row["diverged"]] == [("1", 2), ("2", 1)]


def test_accuracies_are_ranked_by_the_validation_set_and_have_the_tables_intervals(study: Study) -> None:
    chart = figures.accuracy_by_variant(study.runs, SIZES, "digits")

    orders = {
        str(layer["encoding"]["y"]["sort"]) for layer in chart.to_dict()["layer"] if "yOffset" in layer["encoding"]
    }
    assert orders == {str(["resnet20", "l2_0", "simple_nn", "lr_1e-0"])}
    means = {(row["variant"], row["split"]): row for row in data_with(chart, "mean")}
    assert set(means) == {(variant, split) for variant in VARIANTS for split in ("val", "test")}
    assert means["simple_nn", "test"]["mean"] == pytest.approx(0.60)
    # The table's interval: 4.303 * 0.02 / sqrt 3 = 0.0497
    interval = means["simple_nn", "test"]["low"], means["simple_nn", "test"]["high"]
    assert interval == pytest.approx((0.60 - 0.0497, 0.60 + 0.0497), abs=1e-4)
    assert len(data_with(chart, "seed")) == 2 * 3 * len(VARIANTS)


def test_a_note_tells_which_seeds_diverged(study: Study) -> None:
    spec = figures.accuracy_by_variant(study.runs, SIZES, "digits").to_dict()

    texts = {row["text"] for rows in spec["datasets"].values() for row in rows if "text" in row}
    assert "diverged at epoch 1 (seed 2); diverged at epoch 2 (seed 1)" in texts


def test_a_sweep_marks_its_values_on_a_log_axis_with_0_at_the_left(study: Study, tmp_path: Path) -> None:
    spec = sweep(study, tmp_path, "l2").to_dict()

    (x,) = {str(layer["encoding"]["x"]): layer["encoding"]["x"] for layer in spec["layer"]}.values()
    assert x["scale"]["type"] == "log"
    assert x["axis"]["values"] == pytest.approx([0.00001, 0.0001])
    assert x["axis"]["labelExpr"] == "datum.value < 0.0001 ? '0' : format(datum.value, '.3~g')"
    lines = [layer for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    assert [layer["transform"] for layer in lines] == [[{"filter": "datum.value > 0"}]] * 2


def test_a_sweep_shows_every_seed_and_crosses_the_diverged(study: Study, tmp_path: Path) -> None:
    chart = sweep(study, tmp_path, "learning_rate")

    seeds = [row for rows in chart.to_dict()["datasets"].values() for row in rows if "seed" in row]
    assert {row["variant"] for row in seeds} == {"simple_nn", "lr_1e-0"}
    assert {(row["variant"], row["seed"]) for row in seeds if row["diverged"]} == {("lr_1e-0", 1), ("lr_1e-0", 2)}
    assert len(seeds) == 2 * 2 * 3


def test_one_seed_draws_no_spread(one_seed: Study, tmp_path: Path) -> None:
    charts = [
        figures.learning_curves(*one_seed, "digits"),
        figures.accuracy_by_variant(one_seed.runs, SIZES, "digits"),
        sweep(one_seed, tmp_path, "l2"),
    ]

    for chart in charts:
        rows = [row for rows in chart.to_dict()["datasets"].values() for row in rows if "low" in row]
        assert rows
        assert all(row["low"] is None and row["high"] is None for row in rows)
        assert "one seed" in str(chart.to_dict()["title"]).lower()
        assert not re.search("deviation|interval", str(chart.to_dict()["title"]))


@pytest.mark.parametrize(
    ("label", "name"), [("digits", "digits, not official CIFAR-10"), ("cifar10", "official CIFAR-10")]
)
def test_every_title_names_the_data(study: Study, tmp_path: Path, label: str, name: str) -> None:
    params = write_study(tmp_path / "again")
    points = tables.sweep_points(params, study.runs)
    charts = [
        figures.learning_curves(*study, label),
        figures.accuracy_by_variant(study.runs, SIZES, label),
        *(figures.sweep(points[points["sweep"] == key], label) for key in SWEEPS),
    ]

    assert [chart.to_dict()["title"]["text"] for chart in charts] == [
        f"Learning curves: {name}",
        f"Accuracy by variant: {name}",
        f"Learning rate: {name}",
        f"L2: {name}",
    ]


def test_small_differences_do_not_fill_the_axis(study: Study) -> None:
    close = study.runs[study.runs["variant"] == "l2_0"].assign(val_accuracy=0.7, test_accuracy=[0.700, 0.701, 0.702])

    svg = vl_convert.vegalite_to_svg(figures.accuracy_by_variant(close, SIZES, "digits").to_dict())

    ticks = [float(tick) for tick in re.findall(r">([\d.]+)%</text>", svg)]
    assert (ticks[0], ticks[-1]) == (67.5, 73.0)


def test_the_wide_interval_of_two_seeds_ends_with_the_plot_and_is_no_accuracy_near_chance(study: Study) -> None:
    runs = study.runs[(study.runs["variant"] == "l2_0") & (study.runs["seed"] < 2)]
    runs = runs.assign(val_accuracy=[0.50, 0.58], test_accuracy=[0.95, 0.97])

    chart = figures.accuracy_by_variant(runs, SIZES, "digits")

    intervals = {row["split"]: (row["low"], row["high"]) for row in data_with(chart, "low")}
    assert intervals["val"][0] < 0.1 and intervals["test"][1] > 1
    bars = [layer for layer in chart.to_dict()["layer"] if layer["encoding"].get("x2")]
    assert [layer["mark"]["clip"] for layer in bars] == [True]
    assert ">chance<" not in vl_convert.vegalite_to_svg(chart.to_dict())


def test_a_figure_becomes_a_picture_of_lasting_size(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "figures/curves.png"

    write_png(figures.learning_curves(*study, "digits"), path)

    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width > 1000
        colors = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0).tolist()
    for color in ([0xD5, 0x5E, 0x00], [0x8A, 0x8A, 0x8A], [0, 0, 0]):
        assert color in colors


def test_the_interval_of_a_split_is_of_its_images(study: Study) -> None:
    """Where seeds agree it is ± 4.303 / sqrt 3 = 2.484 images."""
    agree = study.runs.assign(val_accuracy=0.5, test_accuracy=0.5)
    chart = figures.accuracy_by_variant(agree, {"train": 90, "val": 80, "test": 70}, "digits")
    lows = {row["split"]: row["low"] for row in data_with(chart, "mean")}
    assert lows == pytest.approx({"val": 0.5 - 2.484 / 80, "test": 0.5 - 2.484 / 70}, abs=1e-4)


def test_the_words_at_the_right_of_the_accuracies_are_the_cells_of_the_table(study: Study) -> None:
    spec = figures.accuracy_by_variant(study.runs, SIZES, "digits").to_dict()
    columns = [layer for layer in spec["layer"] if "text" in layer["encoding"]]
    told = {
        layer["mark"]["color"]: [row["text"] for row in spec["datasets"][layer["data"]["name"]]] for layer in columns
    }
    cells = tables.accuracy_rows(study.runs, SIZES)
    assert told.pop("black") == [row["notes"] for row in cells]
    assert told == {COLORS[split]: [row[f"{split} accuracy, %"] for row in cells] for split in ("test", "val")}
