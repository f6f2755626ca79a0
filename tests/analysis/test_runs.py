"""Reading the runs of a study: what is named is read, all of it and nothing else."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ablation.analysis.runs import read_num_images, read_study, remove_others
from ablation.common.errors import InvalidInput
from tests.reporting.fake_study import DIVERGED, VAL, VARIANTS, write_run, write_study


def run_of(runs: pd.DataFrame, variant: str, seed: int) -> dict[str, Any]:
    (row,) = runs[(runs["variant"] == variant) & (runs["seed"] == seed)].to_dict("records")
    return {str(column): value for column, value in row.items()}


def test_there_is_one_row_per_variant_and_seed_in_the_order_of_the_study(tmp_path: Path) -> None:
    runs, _ = read_study(write_study(tmp_path, seeds=(2, 0)), tmp_path / "runs")

    assert list(zip(runs["variant"], runs["seed"], strict=True)) == [(v, s) for v in VARIANTS for s in (2, 0)]
    assert set(runs["data"]) == {"digits"}


def test_a_row_holds_the_figures_of_its_run(tmp_path: Path) -> None:
    runs, _ = read_study(write_study(tmp_path), tmp_path / "runs")

    row = run_of(runs, "simple_nn", 2)
    assert row["val_accuracy"] == 0.64
    assert row["test_accuracy"] == 0.62
    assert row["val_loss"] == row["test_loss"] == 2.1 / 3
    assert row["gap"] == pytest.approx(0.03)
    assert (row["best_epoch"], row["epochs"]) == (3, 3)
    assert row["seconds"] == 6.0
    assert row["images_per_second"] == 1200.0
    assert row["concurrent_seeds"] == 3
    assert (row["parameters"], row["multiply_adds"]) == (82_030, 1_120_000)
    assert (row["device"], row["precision"], row["torch"]) == ("cpu", "fp32", "2.14.1")
    assert pd.isna(row["diverged_epoch"])
    assert row["train_accuracy"] == pytest.approx(0.67)
    assert row["activation_bytes"] == 73_136
    assert row["instability"] == pytest.approx(0.3)  # of the last of three epochs
    assert row["epochs_to_converge"] == 2 and row["epochs_to_60"] == 2 and row["epochs_to_50"] == 1
    assert pd.isna(row["epochs_to_70"]) and pd.isna(row["batch_norm_mean"])
    assert (row["dead_units"], row["sparsity"]) == (0.06, 0.03)
    assert row["gradient_imbalance_start"] == row["gradient_imbalance"] == pytest.approx(math.log10(2))


def test_only_settings_that_vary_become_columns_and_the_run_knows_its_device_better(tmp_path: Path) -> None:
    runs, _ = read_study(write_study(tmp_path), tmp_path / "runs")

    settings = list(runs.columns)[list(runs.columns).index("evaluated_on") + 1 :]
    assert settings == ["lr", "weight_decay", "model.name", "model.batch_norm", "model.shortcut"]
    assert run_of(runs, "lr_1e-0", 0)["lr"] == 1.0
    assert run_of(runs, "resnet20", 0)["model.shortcut"] == "projection"
    assert pd.isna(run_of(runs, "simple_nn", 0)["model.shortcut"])


def test_the_curves_hold_every_epoch_of_every_run_to_the_last_bit(tmp_path: Path) -> None:
    _, curves = read_study(write_study(tmp_path), tmp_path / "runs")

    expected = [(v, s, e, a) for v in VARIANTS for s in (0, 1, 2) for e, a in enumerate(VAL[v][s], start=1)]
    assert list(curves[["variant", "seed", "epoch", "val_accuracy"]].itertuples(index=False, name=None)) == expected
    assert (curves["train_accuracy"] == curves["val_accuracy"] + 0.02).all()


def test_a_diverged_run_keeps_what_was_measured(tmp_path: Path) -> None:
    runs, curves = read_study(write_study(tmp_path), tmp_path / "runs")

    assert {(v, s): run_of(runs, v, s)["diverged_epoch"] for v, s in DIVERGED} == DIVERGED
    assert runs["diverged_epoch"].notna().sum() == len(DIVERGED)
    first = curves[(curves["variant"] == "lr_1e-0") & (curves["seed"] == 2)]
    assert first["val_accuracy"].to_list() == [0.1]
    assert first[["train_loss", "val_loss"]].isna().all(axis=None)
    assert pd.isna(run_of(runs, "lr_1e-0", 2)["test_loss"])


def test_what_lies_on_disk_but_is_not_named_is_left_alone(tmp_path: Path) -> None:
    params = write_study(tmp_path)
    expected = read_study(params, tmp_path / "runs")
    write_run(tmp_path / "runs/removed", 0, [0.99, 0.99, 0.99], 0.99)
    write_run(tmp_path / "runs/simple_nn", 7, [0.99, 0.99, 0.99], 0.99)

    actual = read_study(params, tmp_path / "runs")

    pd.testing.assert_frame_equal(actual.runs, expected.runs)
    pd.testing.assert_frame_equal(actual.curves, expected.curves)


@pytest.mark.parametrize(
    "file",
    [
        "metrics/seed-1/run.json",
        "metrics/seed-1/plots/metrics/val/accuracy.tsv",
        "timing/seed-1/plots/metrics/seconds.tsv",
        "evaluation/metrics.json",
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    params = write_study(tmp_path)
    path = tmp_path / "runs/simple_nn" / file
    path.unlink()

    with pytest.raises(InvalidInput) as caught:
        read_study(params, tmp_path / "runs")

    assert (
        str(caught.value) == f"{path}: no such file, though the study names this variant and seed; dvc repro makes it"
    )


def test_a_seed_that_was_not_evaluated_is_named(tmp_path: Path) -> None:
    params = write_study(tmp_path, seeds=(0, 1))
    path = tmp_path / "runs/simple_nn/evaluation/metrics.json"

    with pytest.raises(InvalidInput) as caught:
        read_study(params.model_copy(update={"seeds": params.seeds | {"simple_nn": [0, 1, 5]}}), tmp_path / "runs")

    assert str(caught.value) == f"{path}: no seed 5; it has 0, 1; dvc repro evaluates it"


def test_every_variant_was_evaluated_on_the_same_images(tmp_path: Path) -> None:
    params = write_study(tmp_path)
    path = tmp_path / "runs/simple_nn/evaluation/metrics.json"
    for other in VARIANTS:
        file = tmp_path / f"runs/{other}/evaluation/metrics.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"num_images": {"train": 9, "val": 8, "test": 7}}))

    sizes = read_num_images(params, tmp_path / "runs")
    assert sizes == {"train": 9, "val": 8, "test": 7}

    other = path.parents[2] / "l2_0/evaluation/metrics.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"num_images": {"train": 9, "val": 8, "test": 6}}))
    with pytest.raises(InvalidInput) as caught:
        read_num_images(params, tmp_path / "runs")
    assert str(caught.value) == (
        f"{other}: accuracies on 9 train, 8 val, 6 test images are not comparable with those on 9 train, 8 val, 7 test "
        f"in {path}; dvc repro evaluates them again"
    )


def test_what_a_variant_outside_the_study_left_behind_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the folder that aggregate depends on has a hash that no clone can reproduce."""
    monkeypatch.chdir(tmp_path)
    params = write_study(tmp_path)
    for name in ("gone", "never_run"):
        (tmp_path / "runs" / name / "weights").mkdir(parents=True)
    (tmp_path / "runs/gone/weights/seed-0.safetensors").touch()
    remove_others(params, Path("runs"))
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(VARIANTS)
    line = "note: runs/gone removed: not in the study; what its stages finished remains in DVC's cache"
    assert capsys.readouterr().out.splitlines() == [line]


@pytest.mark.parametrize("is_link", [False, True])
def test_what_no_variant_has_left_is_not_removed(is_link: bool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = write_study(tmp_path)
    (tmp_path / "mine/weights").mkdir(parents=True)
    if is_link:
        Path("runs/mine").symlink_to(tmp_path / "mine")
    else:
        (tmp_path / "mine").rename("runs/mine")
        Path("runs/mine/notes.txt").touch()
    with pytest.raises(InvalidInput) as caught:
        remove_others(params, Path("runs"))
    stray = "runs/mine" if is_link else "runs/mine/notes.txt"
    told = "no stage has written it; results depend on all of runs, so move it elsewhere"
    assert str(caught.value) == f"{stray}: {told}"
    assert Path("runs/mine/weights").is_dir()


@pytest.mark.parametrize("stray", ["notes.txt", "simple_nn/mine.csv", "simple_nn/sub/mine.csv", "notes/mine.csv"])
def test_a_file_that_no_stage_has_written_ends_the_stage_before_anything_is_removed(
    stray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = write_study(tmp_path)
    Path("runs/gone/weights").mkdir(parents=True)
    Path("runs", stray).parent.mkdir(exist_ok=True)
    Path("runs", stray).touch()
    named = Path("runs", stray.removesuffix("/mine.csv") if stray != "simple_nn/mine.csv" else stray)
    with pytest.raises(InvalidInput, match=f"^{named}: no stage has written it"):
        remove_others(params, Path("runs"))
    assert Path("runs/gone/weights").is_dir()


def test_files_that_systems_leave_are_no_concern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = write_study(tmp_path)
    left = ["runs/.DS_Store", "runs/simple_nn/.DS_Store", "runs/.gitignore", "runs/simple_nn/.x1.tmp", "runs/notes~"]
    for path in left:
        Path(path).touch()
    Path("runs/.ipynb_checkpoints").mkdir()
    remove_others(params, Path("runs"))
    assert all(Path(path).exists() for path in [*left, "runs/.ipynb_checkpoints"])


def test_a_speed_is_the_median_epochs_and_each_loss_that_of_its_split(tmp_path: Path) -> None:
    params = write_study(tmp_path)
    folder = tmp_path / "runs/simple_nn"
    speeds = folder / "timing/seed-2/plots/metrics/images_per_second.tsv"
    speeds.write_text("step\timages_per_second\n1\t100.0\n2\t900.0\n3\t1000.0\n")
    metrics = json.loads((folder / "evaluation/metrics.json").read_text())
    metrics["seeds"][2]["val"]["loss"], metrics["seeds"][2]["test"]["loss"] = 0.5, 0.7
    (folder / "evaluation/metrics.json").write_text(json.dumps(metrics))

    row = run_of(read_study(params, tmp_path / "runs").runs, "simple_nn", 2)
    assert row["images_per_second"] == 900
    assert (row["val_loss"], row["test_loss"], row["num_threads"]) == (0.5, 0.7, 1)
