"""The page of the fake study, made once."""

from pathlib import Path

import pytest

from ablation.analysis.classes import read_classes
from ablation.analysis.comparisons import compare
from ablation.analysis.params import ReportParams
from ablation.analysis.predictions import read_predictions
from ablation.analysis.runs import read_study
from ablation.reporting import tables
from ablation.reporting.page import Report, page
from tests.reporting.fake_study import write_study


def read_report(params: ReportParams, folder: Path) -> Report:
    runs, curves = read_study(params, folder)
    correct, num_images = read_predictions(params, folder)
    compared = compare(params.comparisons, runs, correct, num_images)
    points = tables.sweep_points(params, runs)
    return Report(params, runs, curves, points, read_classes(params, folder), compared, num_images)


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
