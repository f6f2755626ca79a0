"""Accuracy by class and confusion, as the evaluation left them."""

from pathlib import Path

import pytest

from ablation.analysis.classes import read_classes
from ablation.common.errors import InvalidInput
from tests.reporting.fake_study import CLASSES, NUM_IMAGES, TEST, VARIANTS, write_study


def test_the_accuracy_by_class_and_the_confusion_are_two_routes_to_the_test_accuracy(tmp_path: Path) -> None:
    accuracy, confusion = read_classes(write_study(tmp_path), tmp_path / "runs")

    assert len(accuracy) == len(VARIANTS) * 3 * 10
    assert len(confusion) == len(VARIANTS) * 100
    for variant, by_seed in TEST.items():
        mine = accuracy[accuracy["variant"] == variant]
        assert mine.groupby("seed")["accuracy"].mean().to_list() == pytest.approx(list(by_seed.values()))
        counts = confusion[confusion["variant"] == variant]
        right = counts[counts["label"] == counts["prediction"]]["count"].sum()
        assert right == round(NUM_IMAGES * sum(by_seed.values()))
        assert mine["class"].unique().tolist() == counts["label"].unique().tolist() == CLASSES


def test_a_missing_confusion_matrix_is_named(tmp_path: Path) -> None:
    params = write_study(tmp_path)
    path = tmp_path / "runs/l2_0/evaluation/confusion.csv"
    path.unlink()

    with pytest.raises(InvalidInput, match=f"^{path}: no such file, though the study names this variant"):
        read_classes(params, tmp_path / "runs")
