"""The measures of one run, worked out by hand."""

import math

import pandas as pd
import pytest

from ablation.analysis.diagnostics import of_curve, of_gradients, of_network


def curve(accuracies: list[float], spreads: list[float]) -> pd.DataFrame:
    epochs = pd.RangeIndex(1, len(accuracies) + 1, name="epoch")
    return pd.DataFrame({"val_accuracy": accuracies, "batch_loss_sd": spreads}, index=epochs)


def test_epochs_to_an_accuracy_are_those_of_its_first_crossing() -> None:
    found = of_curve(curve([0.3, 0.52, 0.49, 0.61, 0.60, 0.62], [1.0] * 6), diverged=False)
    assert (found["epochs_to_40"], found["epochs_to_50"], found["epochs_to_60"]) == (2, 2, 4)
    assert math.isnan(found["epochs_to_70"])
    assert found["epochs_to_converge"] == 4  # 0.95 x 0.62 = 0.589
    assert math.isnan(of_curve(curve([0.1], [math.nan]), diverged=True)["epochs_to_converge"])
    guessing = of_curve(curve([0.1, 0.1, 0.11], [1.0] * 3), diverged=False)
    assert math.isnan(guessing["epochs_to_converge"]) and guessing["plateau"] == 0.11


def test_the_plateau_is_the_mean_accuracy_of_the_last_quarter_of_the_epochs() -> None:
    assert of_curve(curve([0.9] * 6 + [0.5, 0.7], [1] * 8), diverged=False)["plateau"] == pytest.approx(0.6)
    assert of_curve(curve([0.9, 0.6], [1] * 2), diverged=False)["plateau"] == pytest.approx(0.6)
    assert math.isnan(of_curve(curve([0.9, 0.6], [1] * 2), diverged=True)["plateau"])


def test_instability_is_of_the_last_quarter_of_the_epochs() -> None:
    assert of_curve(curve([0.5] * 8, [9, 9, 9, 9, 9, 9, 0.2, 0.4]), diverged=False)["instability"] == pytest.approx(0.3)
    assert of_curve(curve([0.5] * 3, [9, 9, 0.2]), diverged=False)["instability"] == pytest.approx(0.2)
    assert math.isnan(of_curve(curve([0.5] * 3, [9, 9, math.nan]), diverged=False)["instability"])
    assert math.isnan(of_curve(curve([0.5] * 3, [9, 9, 0.2]), diverged=True)["instability"])


def test_gradient_imbalance_is_between_the_first_and_the_last_convolution_either_way() -> None:
    epochs = [[10.0, 5.0, 0.1, 7.0], [1.0, 1.0, 1.0, 1.0], [1.0, 5.0, 10.0, 3.0], [1.0, 5.0, 1000.0, 3.0]]
    found = of_gradients(
        {"layers": ["conv1", "stage1.0.conv1", "stage1.0.conv2", "fc"], "epochs": epochs}, diverged=False
    )
    assert found["gradient_imbalance_start"] == pytest.approx(2)
    assert found["gradient_imbalance"] == pytest.approx((1 + 3) / 2)  # epochs 3 and 4 of the later 2 to 4


def test_what_is_not_finite_or_was_never_reached_is_nan() -> None:
    diverged = {"layers": ["conv1", "conv2", "fc"], "epochs": [[1.0, 1.0, 1.0], [None, None, 1.0]]}
    assert math.isnan(of_gradients(diverged, diverged=True)["gradient_imbalance"])
    early = {"layers": ["conv1", "conv2"], "epochs": [[1.0, 1.0], [1.0, 10.0]]}  # finite before the epoch that diverged
    found = of_gradients(early, diverged=True)
    assert found["gradient_imbalance_start"] == 0 and math.isnan(found["gradient_imbalance"])
    one_epoch = {"layers": ["conv1", "conv2", "fc"], "epochs": [[1.0, 1.0, 1.0]]}
    assert of_gradients(one_epoch, diverged=False)["gradient_imbalance_start"] == 0
    assert math.isnan(of_gradients(one_epoch, diverged=False)["gradient_imbalance"])
    dead = {"layers": ["conv1", "conv2"], "epochs": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]}
    assert (
        math.isnan(of_gradients(dead, diverged=False)["gradient_imbalance_start"])
        and of_gradients(dead, diverged=False)["gradient_imbalance"] == 0
    )


def test_a_network_without_batch_norm_has_no_means_of_it() -> None:
    found = of_network({"sparsity": 0.1, "dead_units": None, "batch_norm": None})
    assert found["sparsity"] == 0.1
    assert all(math.isnan(found[name]) for name in ("dead_units", "batch_norm_mean", "batch_norm_mean_normalized"))
    found = of_network({"sparsity": 0.1, "dead_units": 0.2, "batch_norm": {"normalized": 1e-8, "output": 0.3}})
    assert (found["batch_norm_mean_normalized"], found["batch_norm_mean"]) == (1e-8, 0.3)


def test_what_the_last_epochs_lack_is_missing_in_the_mean() -> None:
    late = curve([0.5] * 8, [9, 9, 9, 9, 9, 9, 0.2, math.nan])
    assert math.isnan(of_curve(late, diverged=False)["instability"])
    epochs = [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [None, None]]
    assert math.isnan(
        of_gradients({"layers": ["conv1", "conv2"], "epochs": epochs}, diverged=False)["gradient_imbalance"]
    )


def test_a_quarter_that_is_no_whole_number_of_epochs_is_rounded_up() -> None:
    found = of_curve(curve([0.9, 0.9, 0.9, 0.9, 0.5, 0.7], [9, 9, 9, 9, 0.2, 0.4]), diverged=False)
    assert (found["plateau"], found["instability"]) == pytest.approx((0.6, 0.3))


def test_an_accuracy_at_its_level_has_reached_it_and_one_at_twice_a_guess_has_not_learned() -> None:
    found = of_curve(curve([0.1, 0.95, 1.0], [1.0] * 3), diverged=False)
    assert found["epochs_to_converge"] == 2
    assert of_curve(curve([0.5, 0.6], [1.0] * 2), diverged=False)["epochs_to_50"] == 1
    assert math.isnan(of_curve(curve([0.1, 0.2], [1.0] * 2), diverged=False)["epochs_to_converge"])
