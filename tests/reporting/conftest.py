"""The page of the fake study, made once."""

from pathlib import Path

import pytest

from ablation.analysis.classes import read_classes
from ablation.analysis.comparability import not_comparable
from ablation.analysis.comparisons import compare
from ablation.analysis.layers import read_layers
from ablation.analysis.params import ReportParams
from ablation.analysis.predictions import read_predictions
from ablation.analysis.runs import read_num_images, read_study
from ablation.reporting import tables
from ablation.reporting.page import Report, page
from tests.reporting.fake_study import write_study

PROVENANCE = {
    "commit": "1234567",
    "date": "2024-05-06 07:08:09 +0000",
    "uncommitted": ["src"],
    "changed": [{"name": "seeds", "default": [0], "value": [0, 1, 2]}, {"name": "train.lr", "value": 0.1}],
}


def read_report(params: ReportParams, folder: Path) -> Report:
    runs, curves = read_study(params, folder)
    num_images = read_num_images(params, folder)
    compared = compare(
        params.comparisons, runs, read_predictions(params, folder), num_images, not_comparable(params, num_images)
    )
    points = tables.sweep_points(params, runs)
    classes, layers = read_classes(params, folder), read_layers(params, folder)
    return Report(params, runs, curves, points, classes, compared, num_images, layers, PROVENANCE)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("study")
    return read_report(write_study(folder), folder / "runs")


@pytest.fixture
def one_seed_report(tmp_path: Path) -> Report:
    return read_report(write_study(tmp_path, seeds=(0,)), tmp_path / "runs")


@pytest.fixture(scope="session")
def html(report: Report) -> str:
    return page(report)
