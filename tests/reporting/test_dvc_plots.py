"""What `dvc plots` draws: the plots of dvc.yaml by the templates in .dvc/plots, for one and for several revisions."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import vl_convert
import yaml
from dvc_render import VegaRenderer  # type: ignore[import-untyped]

from ablation.analysis.runs import read_study
from ablation.reporting import tables
from tests.reporting.fake_study import VARIANTS, write_study

ROOT = Path(__file__).parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PLOTS = {name: properties for plot in PIPELINE["plots"] for name, properties in plot.items()}


CROSS = 'd="M-3.162,-3.162L3.162,3.162M3.162,-3.162L-3.162,3.162"'


def as_dvc_reads(frame: pd.DataFrame, rev: str) -> list[dict[str, Any]]:
    """DVC reads a CSV as strings, and adds the revision."""
    return [row | {"rev": rev} for row in csv.DictReader(io.StringIO(frame.to_csv(index=False)))]


def draw(rows: list[dict[str, Any]], template: str, **properties: Any) -> list[str]:
    """The ARIA labels and the text of the picture."""
    svg = drawn(rows, template, **properties)
    return re.findall(r'aria-label="([^"]*)"', svg) + re.findall(r">([^<>]+)</text>", svg)


def drawn(rows: list[dict[str, Any]], template: str, **properties: Any) -> str:
    renderer = VegaRenderer(rows, "plot", template=template, template_dir=str(ROOT / ".dvc/plots"), **properties)
    spec = renderer.get_filled_template()
    assert "<DVC_METRIC" not in str(spec)
    svg: str = vl_convert.vegalite_to_svg(spec, vl_version="5.8")  # the oldest at hand; DVC's page loads 5.2
    return svg


def draw_plot(name: str, rows: list[dict[str, Any]]) -> list[str]:
    plot = PLOTS[name]
    ((_, y),) = plot["y"].items()
    return draw(rows, plot["template"], x=plot["x"], y=y, title=plot["title"])


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The CSV files of results/ by name."""
    folder = tmp_path_factory.mktemp("study")
    params = write_study(folder)
    runs, curves = read_study(params, folder / "runs")
    return {"ablation.csv": runs, "curves.csv": curves, "sweeps.csv": tables.sweep_points(params, runs)}


def test_every_plot_reads_a_result_of_the_aggregate_stage(frames: dict[str, pd.DataFrame]) -> None:
    outs = PIPELINE["stages"]["aggregate"]["outs"]

    for plot in PLOTS.values():
        ((path, y),) = plot["y"].items()
        assert path in outs
        assert {plot["x"], y} <= set(frames[Path(path).name].columns)


@pytest.mark.parametrize("name", PLOTS)
def test_every_revision_is_told_apart_and_names_its_data(frames: dict[str, pd.DataFrame], name: str) -> None:
    (path,) = PLOTS[name]["y"]
    frame = frames[Path(path).name]
    official = frame.assign(data="cifar10")

    words = draw_plot(name, as_dvc_reads(frame, "workspace") + as_dvc_reads(official, "main"))

    assert {"workspace: digits, not official CIFAR-10", "main: official CIFAR-10"} <= set(words)


def test_every_variant_has_a_panel_of_curves(frames: dict[str, pd.DataFrame]) -> None:
    words = draw_plot("learning_curves", as_dvc_reads(frames["curves.csv"], "workspace"))

    assert [word for word in words if word in VARIANTS] == list(VARIANTS)


def test_a_curve_is_the_mean_over_seeds(frames: dict[str, pd.DataFrame]) -> None:
    words = draw_plot("learning_curves", as_dvc_reads(frames["curves.csv"], "workspace"))

    points = [word for word in words if word.startswith("epoch: 2; mean: 0.61;") and "split: validation" in word]
    assert points
    assert all("variant: simple_nn;" in word and word.endswith("line: mean") for word in points)


def test_seeds_of_a_variant_of_which_one_stopped_early_are_drawn_apart(frames: dict[str, pd.DataFrame]) -> None:
    words = draw_plot("learning_curves", as_dvc_reads(frames["curves.csv"], "workspace"))

    lines = {match[1] for word in words if "variant: lr_1e-0" in word and (match := re.search(r"line: (\w+)", word))}
    assert lines == {"0", "1", "2"}


@pytest.mark.parametrize("alike", [False, True])
def test_a_cross_marks_where_a_run_diverged_also_where_all_did_so_at_once(
    frames: dict[str, pd.DataFrame], alike: bool
) -> None:
    curves = frames["curves.csv"]
    if alike:
        first = curves[(curves["variant"] != "lr_1e-0") | (curves["epoch"] == 1)]
        curves = first.assign(train_loss=first["train_loss"].mask(first["variant"] == "lr_1e-0"))
    plot = PLOTS["learning_curves"]
    svg = drawn(as_dvc_reads(curves, "workspace"), plot["template"], x=plot["x"], y="val_accuracy", title="curves")
    crosses = [mark for mark in re.findall(r"<path[^>]*>", svg) if CROSS in mark and 'opacity="1"' in mark]
    assert sorted(mark.split('aria-label="')[1].split(";")[0] for mark in crosses) == (
        ["epoch: 1"] if alike else ["epoch: 1", "epoch: 2"]
    )


def test_accuracies_are_those_of_the_table(frames: dict[str, pd.DataFrame]) -> None:
    words = draw_plot("accuracy", as_dvc_reads(frames["ablation.csv"], "workspace"))

    assert [word for word in words if word in VARIANTS][:4] == ["resnet20", "l2_0", "simple_nn", "lr_1e-0"]
    (test, val) = dict.fromkeys(word for word in words if "variant: simple_nn" in word and "sd: " in word)
    assert "mean: 60.00%; sd: 2.00%; n: 3" in test
    assert "mean: 62.00%; sd: 2.00%; n: 3" in val


def test_one_seed_has_no_error_bar(frames: dict[str, pd.DataFrame]) -> None:
    one = frames["ablation.csv"][frames["ablation.csv"]["seed"] == 0]

    assert not [word for word in draw_plot("accuracy", as_dvc_reads(one, "workspace")) if "low" in word]
    assert [word for word in draw_plot("accuracy", as_dvc_reads(frames["ablation.csv"], "workspace")) if "low" in word]


def test_a_sweep_labels_its_values_and_0(frames: dict[str, pd.DataFrame]) -> None:
    words = draw_plot("sweeps", as_dvc_reads(frames["sweeps.csv"], "workspace"))

    assert {"0", "0.0001", "0.01", "1", "L2", "Learning rate"} <= set(words)


def test_a_confusion_matrix_shows_counts_and_their_share_of_the_label() -> None:
    (plot,) = PIPELINE["stages"]["evaluate"]["plots"]
    ((_, properties),) = plot.items()
    pairs = [("cat", "cat", 6), ("cat", "dog", 2), ("dog", "cat", 0), ("dog", "dog", 5)]
    frame = pd.DataFrame(pairs, columns=["label", "prediction", "count"])

    words = draw(as_dvc_reads(frame, "workspace"), title="a", **properties)

    shares = {"cat": {"cat": 75, "dog": 25}, "dog": {"cat": 0, "dog": 100}}
    assert [word for word in words if "share: " in word] == [
        f"prediction: {prediction}; label: {label}; share: {shares[label][prediction]}.000000%; count: {count}"
        for label, prediction, count in pairs
    ]
