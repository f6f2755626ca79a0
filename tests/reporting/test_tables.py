"""The tables: their cells, and the words that name the data."""

import json
import statistics
from pathlib import Path

import pandas as pd
import pytest

from ablation.analysis.params import ReportParams
from ablation.analysis.runs import read_study
from ablation.reporting import tables
from tests.reporting.fake_study import NUM_IMAGES, TEST, VAL, VARIANTS, write_study

SIZES = dict.fromkeys(["train", "val", "test"], NUM_IMAGES)


@pytest.fixture
def params(tmp_path: Path) -> ReportParams:
    return write_study(tmp_path)


@pytest.fixture
def runs(params: ReportParams, tmp_path: Path) -> pd.DataFrame:
    return read_study(params, tmp_path / "runs").runs


def cells(page: str) -> dict[str, list[str]]:
    """Variant -> its other cells of a Markdown table."""
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in page.splitlines()]
    return {row[0]: row[1:] for row in rows if row[0] in VARIANTS}


def test_the_markdown_table_has_a_row_per_variant_best_first(runs: pd.DataFrame) -> None:
    rows = cells(tables.markdown(runs, SIZES, "digits"))

    # 4.303 / sqrt 3 = 2.484 times the standard deviation, which is at least one image of a hundred
    diverged = "diverged at epoch 1 (seed 2); diverged at epoch 2 (seed 1)"
    assert list(rows.items()) == [
        ("resnet20", ["3", "91.00 ± 2.48", "91.00 ± 4.30", "272,474", "1.12", "6.0", ""]),
        ("l2_0", ["3", "70.00 ± 2.48", "70.00 ± 2.48", "82,030", "1.12", "6.0", ""]),
        ("simple_nn", ["3", "62.00 ± 4.97", "60.00 ± 4.97", "82,030", "1.12", "6.0", ""]),
        ("lr_1e-0", ["3", "10.00 ± 2.48", "10.00 ± 2.48", "82,030", "1.12", "4.0", diverged]),
    ]


def test_seeds_that_diverged_at_one_epoch_share_a_note(runs: pd.DataFrame) -> None:
    together = runs[runs["variant"] == "lr_1e-0"].assign(diverged_epoch=pd.array([4, 4, None], dtype="Int64"))

    assert tables.divergences(together) == "diverged at epoch 4 (seeds 0, 1)"


def test_the_terminal_has_the_same_cells_aligned_in_columns(runs: pd.DataFrame) -> None:
    lines = tables.text(runs, SIZES, "digits").splitlines()

    assert lines[0] == "Ablation on digits, not official CIFAR-10"
    assert lines[1].startswith("mean ± 95 % confidence interval over n seeds")
    rows = {name: lines[i] for i, line in enumerate(lines) for name in VARIANTS if line.split(" ")[0] == name}
    assert list(rows) == list(cells(tables.markdown(runs, SIZES, "digits")))
    assert len({row.index("±") for row in rows.values()}) == 1
    for name, row in cells(tables.markdown(runs, SIZES, "digits")).items():
        assert [cell for cell in row if cell and cell in rows[name]] == [cell for cell in row if cell]


def test_a_bar_in_a_cell_does_not_end_it_in_markdown() -> None:
    rows = [{"comparison": "|a - b|", "n": "3"}]
    assert tables.text_table(rows, "pipe", right=["n"]).splitlines() == [
        "| comparison   |   n |",
        "|:-------------|----:|",
        "| \\|a - b\\|    |   3 |",
    ]
    assert tables.text_table(rows, "simple").splitlines()[-1] == "|a - b|       3"


def test_one_seed_has_no_plus_or_minus_in_its_row(tmp_path: Path) -> None:
    runs = read_study(write_study(tmp_path, seeds=(0,)), tmp_path / "runs").runs

    assert cells(tables.markdown(runs, SIZES, "digits"))["simple_nn"][:3] == ["1", "60.00", "58.00"]


def test_the_metrics_have_means_and_deviations_per_variant(runs: pd.DataFrame) -> None:
    summary = tables.summary(runs)

    assert list(summary) == list(VARIANTS)
    assert summary["simple_nn"] == {"val": {"mean": 0.62, "sd": 0.02}, "test": {"mean": 0.6, "sd": 0.02}, "n": 3}
    for variant in VARIANTS:
        best = [max(accuracies) for accuracies in VAL[variant].values()]
        test = list(TEST[variant].values())
        assert summary[variant]["val"]["sd"] == round(statistics.stdev(best), 4)
        assert summary[variant]["test"] == {
            "mean": round(statistics.mean(test), 4),
            "sd": round(statistics.stdev(test), 4),
        }


def test_the_metrics_of_one_seed_have_no_deviation_rather_than_zero(tmp_path: Path) -> None:
    summary = tables.summary(read_study(write_study(tmp_path, seeds=(0,)), tmp_path / "runs").runs)

    assert summary["simple_nn"] == {"val": {"mean": 0.6, "sd": None}, "test": {"mean": 0.58, "sd": None}, "n": 1}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize("label", ["digits", "cifar10-jpeg"])
def test_other_data_than_the_official_are_announced(runs: pd.DataFrame, label: str) -> None:
    page = tables.markdown(runs, SIZES, label)

    assert page.startswith(f"# Ablation on {label}, not official CIFAR-10\n")
    assert f"**These are {label}, not official CIFAR-10." in page
    assert tables.text(runs, SIZES, label).startswith(f"Ablation on {label}, not official CIFAR-10\n")


def test_official_data_are_named_without_a_warning(runs: pd.DataFrame) -> None:
    assert tables.markdown(runs, SIZES, "cifar10").startswith("# Ablation on official CIFAR-10\n\n| variant")
    assert "not official" not in tables.markdown(runs, SIZES, "cifar10") + tables.text(runs, SIZES, "cifar10")


def test_a_sweep_has_the_variants_of_the_study_by_value_and_a_place_for_0(
    params: ReportParams, runs: pd.DataFrame
) -> None:
    points = tables.sweep_points(params, runs)

    columns = ["sweep", "title", "variant", "seed", "value", "position"]
    assert list(points[columns].itertuples(index=False, name=None)) == [
        *[("learning_rate", "Learning rate", "simple_nn", seed, 0.01, 0.01) for seed in (0, 1, 2)],
        *[("learning_rate", "Learning rate", "lr_1e-0", seed, 1.0, 1.0) for seed in (0, 1, 2)],
        *[("l2", "L2", "l2_0", seed, 0.0, pytest.approx(0.00001)) for seed in (0, 1, 2)],
        *[("l2", "L2", "simple_nn", seed, 0.0001, 0.0001) for seed in (0, 1, 2)],
    ]
    assert points["test_accuracy"].to_list()[:3] == [0.58, 0.60, 0.62]


def test_a_sweep_of_fewer_than_two_values_is_left_out(params: ReportParams, runs: pd.DataFrame) -> None:
    variants = {name: settings for name, settings in params.variants.items() if name != "l2_0"}

    points = tables.sweep_points(params.model_copy(update={"variants": variants}), runs)
    none = tables.sweep_points(params.model_copy(update={"sweeps": {}}), runs)

    assert set(points["sweep"]) == {"learning_rate"}
    assert none.empty
    assert list(none.columns) == list(points.columns)
