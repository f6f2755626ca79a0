"""The curves of a seed on disk."""

import json
import math
from dataclasses import replace

import pytest

from ablation.training.curves import Curves
from ablation.training.loop import Epoch


def epoch_of_figures(number: int) -> Epoch:
    timing = {"seconds": 7.0, "images_per_second": 8.0, "concurrent_seeds": 9}
    return Epoch(number, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, **timing, gradient_norms=[])


def test_each_figure_has_a_curve_of_its_own(tmp_path) -> None:
    epoch = epoch_of_figures(3)
    curves = Curves(tmp_path / "metrics", tmp_path / "timing")
    curves.log(epoch)
    curves.log(replace(epoch, number=4, train_loss=math.nan, val_loss=math.inf))
    curves.close()
    written = {
        str(path.relative_to(tmp_path)).replace("/plots/metrics", ""): path.read_text().splitlines()[1:]
        for path in tmp_path.rglob("*.tsv")
    }
    assert written == {
        "metrics/train/loss.tsv": ["3\t0.1"],
        "metrics/train/accuracy.tsv": ["3\t0.2", "4\t0.2"],
        "metrics/train/batch_loss_sd.tsv": ["3\t0.3", "4\t0.3"],
        "metrics/val/loss.tsv": ["3\t0.4"],
        "metrics/val/accuracy.tsv": ["3\t0.5", "4\t0.5"],
        "metrics/lr.tsv": ["3\t0.6", "4\t0.6"],
        "timing/seconds.tsv": ["3\t7.0", "4\t7.0"],
        "timing/images_per_second.tsv": ["3\t8.0", "4\t8.0"],
        "timing/concurrent_seeds.tsv": ["3\t9", "4\t9"],
    }


def test_their_end_asks_nothing_of_dvc_and_reaches_the_disk(tmp_path, monkeypatch) -> None:
    """In an experiment with the default study, Live.end takes half a second."""
    monkeypatch.setattr("dvclive.live.ensure_dir_is_tracked", lambda *_: pytest.fail("looked for tracked files"))
    synced = []
    monkeypatch.setattr("ablation.training.curves.sync", synced.append)
    curves = Curves(tmp_path / "metrics", tmp_path / "timing")
    for live in (curves.metrics, curves.timing):
        live._inside_dvc_exp, live._dvc_repo = True, object()
    curves.log(epoch_of_figures(1))
    curves.close()
    summary = json.loads((tmp_path / "metrics/metrics.json").read_text())
    assert summary["step"] == 1 and summary["val"] == {"loss": 0.4, "accuracy": 0.5}
    folders = [tmp_path / "metrics", tmp_path / "timing"]
    written = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    assert sorted(synced) == sorted(written)
