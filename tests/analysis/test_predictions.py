"""Correctness of the predictions that the comparisons need."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablation.analysis.params import ReportParams
from ablation.analysis.predictions import read_predictions
from ablation.common.errors import InvalidInput
from tests.reporting.fake_study import COMPARISONS, NUM_IMAGES, TEST, write_study


@pytest.fixture
def params(tmp_path: Path) -> ReportParams:
    return write_study(tmp_path)


def edit(path: Path, keep: str) -> None:
    pd.read_csv(path).query(keep).to_csv(path, index=False)


def test_the_variants_compared_are_read_as_one_row_per_seed(params: ReportParams, tmp_path: Path) -> None:
    correct = read_predictions(params, tmp_path / "runs")

    assert list(correct) == ["resnet20", "simple_nn", "l2_0", "lr_1e-0"]
    for variant, right in correct.items():
        assert right.shape == (3, NUM_IMAGES)
        assert right.mean(axis=1).tolist() == pytest.approx(list(TEST[variant].values()))


def test_images_are_matched_by_their_index(params: ReportParams, tmp_path: Path) -> None:
    before = read_predictions(params, tmp_path / "runs")
    path = tmp_path / "runs/simple_nn/evaluation/predictions.csv"
    pd.read_csv(path).sample(frac=1, random_state=0).to_csv(path, index=False)

    after = read_predictions(params, tmp_path / "runs")

    assert np.array_equal(before["simple_nn"], after["simple_nn"])


def test_only_what_a_comparison_names_is_read(params: ReportParams, tmp_path: Path) -> None:
    only = {name: params.comparisons[name] for name in ("resnet20", "swish")}
    (tmp_path / "runs/l2_0/evaluation/predictions.csv").unlink()

    correct = read_predictions(params.model_copy(update={"comparisons": only}), tmp_path / "runs")
    nothing = read_predictions(params.model_copy(update={"comparisons": {}}), tmp_path / "runs")

    assert list(correct) == ["resnet20", "simple_nn"]
    assert nothing == {}
    assert "swish" in COMPARISONS


def test_seeds_that_the_study_does_not_name_are_left_out(params: ReportParams, tmp_path: Path) -> None:
    correct = read_predictions(
        params.model_copy(update={"seeds": params.seeds | {"simple_nn": [2, 0]}}), tmp_path / "runs"
    )

    assert correct["simple_nn"].mean(axis=1).tolist() == pytest.approx([TEST["simple_nn"][2], TEST["simple_nn"][0]])


def test_a_missing_file_is_named(params: ReportParams, tmp_path: Path) -> None:
    path = tmp_path / "runs/l2_0/evaluation/predictions.csv"
    path.unlink()

    with pytest.raises(InvalidInput, match=f"^{path}: no such file, though the study names this variant"):
        read_predictions(params, tmp_path / "runs")


def test_a_missing_seed_is_named(params: ReportParams, tmp_path: Path) -> None:
    edit(tmp_path / "runs/l2_0/evaluation/predictions.csv", "not (seed == 1 and split == 'test')")

    with pytest.raises(InvalidInput, match=r"l2_0/.*predictions\.csv: no seed 1; dvc repro eval"):
        read_predictions(params, tmp_path / "runs")
