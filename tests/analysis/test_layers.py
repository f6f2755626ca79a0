"""Weights and gradients by layer, as training and evaluation left them."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from ablation.analysis.layers import Layers, read_layers
from ablation.common.errors import InvalidInput
from tests.reporting.fake_study import LAYERS, VARIANTS, write_study


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return read_layers(write_study(tmp_path), tmp_path / "runs")


def of(table: pd.DataFrame, variant: str, seed: int) -> pd.DataFrame:
    return table[(table["variant"] == variant) & (table["seed"] == seed)]


def test_the_weights_of_a_network_are_shares_that_add_up_to_all(layers: Layers) -> None:
    sums = layers.weights.groupby(["variant", "seed"])["share"].sum()
    assert sums.to_list() == pytest.approx([1] * 10)  # 12 runs, of which two diverged
    mine = of(layers.weights, "simple_nn", 1)
    assert (mine["low"].iloc[0], mine["high"].iloc[-1], len(mine)) == (-6, 0, 30)
    assert mine["low"].to_list()[1:] == mine["high"].to_list()[:-1]
    assert (mine["share"].iloc[0], mine["share"].iloc[-1]) == pytest.approx((0.02, 0.98))
    assert of(layers.weights, "lr_1e-0", 2).empty


def test_the_gradients_are_those_at_initialisation_and_of_the_second_half(layers: Layers) -> None:
    assert layers.gradients["variant"].unique().tolist() == list(VARIANTS)
    mine = of(layers.gradients, "resnet20", 0)
    assert mine["layer"].to_list() == LAYERS and mine["depth"].to_list() == [1, 2, 3]
    assert mine["start"].to_list() == [1, 2, 3]
    assert mine["later"].to_list() == pytest.approx([1 / 3, 2 / 3, 1])  # epoch 3 of 3; epoch 2 is in the middle


@pytest.mark.parametrize(
    ("num_epochs", "later"), [(1, math.nan), (2, 1 / 2), (4, (1 / 3 + 1 / 4) / 2), (5, (1 / 4 + 1 / 5) / 2)]
)
def test_the_second_half_never_holds_the_initialisation(tmp_path: Path, num_epochs: int, later: float) -> None:
    params = write_study(tmp_path)
    epochs = [[1 / k, 2 / k, 3 / k] for k in range(1, num_epochs + 1)]
    path = tmp_path / "runs/simple_nn/metrics/seed-0/gradients.json"
    path.write_text(json.dumps({"layers": LAYERS, "epochs": epochs}))

    mine = of(read_layers(params, tmp_path / "runs").gradients, "simple_nn", 0)

    assert mine["later"].iloc[0] == pytest.approx(later, nan_ok=True)


def test_gradients_that_are_not_finite_are_nan(layers: Layers) -> None:
    assert of(layers.gradients, "lr_1e-0", 2)[["start", "later"]].isna().all(axis=None)
    second = of(layers.gradients, "lr_1e-0", 1)  # diverged at epoch 2 of 2
    assert second["start"].to_list() == [1, 2, 3] and second["later"].isna().all()


def test_a_mean_over_epochs_of_which_one_is_not_finite_is_nan(tmp_path: Path) -> None:
    params = write_study(tmp_path)
    path = tmp_path / "runs/l2_0/metrics/seed-1/gradients.json"
    layers = json.loads(path.read_text())["layers"]
    epochs = [[1.0] * len(layers)] * 4 + [[None] * len(layers)]
    path.write_text(json.dumps({"layers": layers, "epochs": epochs}))
    changed = of(read_layers(params, tmp_path / "runs").gradients, "l2_0", 1)
    assert changed["start"].eq(1).all() and changed["later"].isna().all()


@pytest.mark.parametrize("name", ["evaluation/diagnostics.json", "metrics/seed-1/gradients.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    params = write_study(tmp_path)
    path = tmp_path / "runs/l2_0" / name
    path.unlink()

    with pytest.raises(InvalidInput, match=f"^{path}: no such file, though the study names this variant"):
        read_layers(params, tmp_path / "runs")


def test_a_missing_seed_is_named(tmp_path: Path) -> None:
    params = write_study(tmp_path)
    path = tmp_path / "runs/l2_0/evaluation/diagnostics.json"
    path.write_text(json.dumps({"seeds": json.loads(path.read_text())["seeds"][:2]}))

    with pytest.raises(InvalidInput, match=f"^{path}: no seed 2; it has 0, 1; dvc repro evaluates it$"):
        read_layers(params, tmp_path / "runs")
