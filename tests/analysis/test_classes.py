"""Accuracy by class and confusion, as the evaluation left them."""

import json
from pathlib import Path

import pytest

from ablation.analysis.classes import MISTAKES, read_classes
from ablation.common.errors import InvalidInput
from tests.reporting.fake_study import CLASSES, NUM_IMAGES, TEST, VARIANTS, write_study


def test_the_accuracy_by_class_and_the_confusion_are_two_routes_to_the_test_accuracy(tmp_path: Path) -> None:
    accuracy, confusion, _ = read_classes(write_study(tmp_path), tmp_path / "runs")

    assert len(accuracy) == len(VARIANTS) * 3 * 10
    assert len(confusion) == len(VARIANTS) * 100
    for variant, by_seed in TEST.items():
        mine = accuracy[accuracy["variant"] == variant]
        assert mine.groupby("seed")["accuracy"].mean().to_list() == pytest.approx(list(by_seed.values()))
        counts = confusion[confusion["variant"] == variant]
        right = counts[counts["label"] == counts["prediction"]]["count"].sum()
        assert right == round(NUM_IMAGES * sum(by_seed.values()))
        assert mine["class"].unique().tolist() == counts["label"].unique().tolist() == CLASSES


def test_the_mistakes_are_those_of_each_variant_in_their_order(tmp_path: Path) -> None:
    mistakes = read_classes(write_study(tmp_path), tmp_path / "runs").mistakes

    assert mistakes["variant"].unique().tolist() == list(VARIANTS)
    for variant in VARIANTS:
        written = json.loads((tmp_path / "runs" / variant / "evaluation/mistakes.json").read_text())
        mine = mistakes[mistakes["variant"] == variant]
        assert mine["rank"].to_list() == list(range(len(written)))
        assert mine.drop(columns=["variant", "rank"]).to_dict("records") == written


def test_a_study_without_mistakes_has_an_empty_table(tmp_path: Path) -> None:
    params = write_study(tmp_path)
    for variant in VARIANTS:
        (tmp_path / "runs" / variant / "evaluation/mistakes.json").write_text("[]")

    mistakes = read_classes(params, tmp_path / "runs").mistakes

    assert mistakes.empty and list(mistakes) == MISTAKES


def test_a_class_may_be_called_as_pandas_calls_a_missing_value(tmp_path: Path) -> None:
    params = write_study(tmp_path)
    for variant in VARIANTS:
        (tmp_path / "runs" / variant / "evaluation/confusion.csv").write_text("label,prediction,count\nNA,null,3\n")
    confusion = read_classes(params, tmp_path / "runs").confusion
    assert confusion[["label", "prediction", "count"]].to_numpy().tolist() == [["NA", "null", 3]] * len(VARIANTS)


@pytest.mark.parametrize("name", ["confusion.csv", "mistakes.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    params = write_study(tmp_path)
    path = tmp_path / "runs/l2_0/evaluation" / name
    path.unlink()

    with pytest.raises(InvalidInput, match=f"^{path}: no such file, though the study names this variant"):
        read_classes(params, tmp_path / "runs")
