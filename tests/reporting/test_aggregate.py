"""Stage aggregate, as DVC calls it in the project's root."""

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from ablation.analysis.runs import read_study
from ablation.reporting import style
from tests.reporting.fake_study import COMPARISONS, VARIANTS, write_run, write_study
from tests.stages import run_stage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them is most of the stage's time."""
    monkeypatch.setattr(style, "write_png", lambda chart, path: None)


def test_every_output_of_the_stage_is_written(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = write_study(workspace)
    write_run(workspace / "runs/removed", 0, [0.99, 0.99, 0.99], 0.99)

    run_stage("aggregate")

    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["aggregate"]
    for path in stage["outs"] + stage["metrics"]:
        assert (workspace / path).exists(), path
    assert [str(path) for path in Path("results").iterdir() if str(path) not in stage["outs"] + stage["metrics"]] == []
    runs, curves = read_study(params, workspace / "runs")
    sizes = dict.fromkeys(["train_images", "val_images", "test_images"], 100)
    for name, frame in (("ablation", runs.assign(**sizes)), ("curves", curves)):
        written = pd.read_csv(f"results/{name}.csv")
        assert list(written) == list(frame)
        assert written["variant"].to_list() == frame["variant"].to_list()
        numbers = list(frame.select_dtypes("number"))
        pd.testing.assert_frame_equal(written[numbers], frame[numbers], check_dtype=False)
    assert pd.read_csv("results/comparisons.csv")["answer"].to_list() == [row[-1] for row in COMPARISONS.values()]
    assert "## The claims, and what these runs say" in Path("results/ablation.md").read_text()
    assert list(json.loads(Path("results/summary.json").read_text())) == list(VARIANTS)

    pictures = ["learning_curves", "accuracy", "cost", "forest", "forest_figures", "forest_loss"]
    pictures += ["sweep_learning_rate", "sweep_l2"]
    assert sorted(path.stem for path in Path("results/figures").iterdir()) == sorted(pictures)
    for name in pictures:
        with Image.open(f"results/figures/{name}.png") as picture:
            assert picture.convert("RGB").getcolors(10) is None, "it has no more than 10 colours"

    note, *printed = capsys.readouterr().out.splitlines()
    assert note.startswith("note: runs/removed removed")
    assert printed[0] == "Ablation on digits, not official CIFAR-10"
    assert [line for line in printed if "figure: " in line] == [f"figure: results/figures/{n}.png" for n in pictures]
    assert printed[printed.index("The claims, and what these runs say") - 1] == ""
    assert printed[-1] == "not run: 1 of 9, see results/ablation.md"
    assert not [line for line in printed if "removed" in line]


@pytest.mark.usefixtures("no_pictures")
def test_every_column_is_explained_in_the_docs(workspace: Path) -> None:
    write_study(workspace)
    run_stage("aggregate")

    sections = (ROOT / "docs/tables.md").read_text().split("\n## ")[1:]
    for section, names in zip(sections, ["ablation", "comparisons", "curves", "statements sweeps"], strict=True):
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        explained = {name for row in rows for name in re.findall(r"`([^` ]+)`", row.split(" | ")[0])}
        written = {column for name in names.split() for column in pd.read_csv(f"results/{name}.csv")}
        if names == "ablation":
            explained |= {f"epochs_to_{percent}" for percent in range(40, 100, 10)}
            written -= {"lr", "weight_decay"} | {column for column in written if "." in column}  # settings that differ
        assert explained - {"cpu_capability", "gcc", "c++", "triton"} == written


def test_where_the_runs_come_from_is_on_the_page_and_beside_it(
    workspace: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(workspace)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(workspace.parent))
    run_stage("aggregate")
    assert json.loads(Path("results/provenance.json").read_text()) == {}
    assert ">commit</th>" not in Path("results/report.html").read_text()

    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    Path("params.yaml").write_text("lr: 0.01\n")
    for arguments in (["init", "--quiet"], ["add", "params.yaml"], ["commit", "--quiet", "--message", "settings"]):
        subprocess.run(["git", *identity, *arguments], check=True)
    Path("configs/params.yaml").write_text("lr: 0.1\n")
    run_stage("aggregate")
    origin = json.loads(Path("results/provenance.json").read_text())
    assert origin["changed"] == [{"name": "lr", "default": 0.01, "value": 0.1}]
    html = Path("results/report.html").read_text()
    assert f'<tr><th scope="row">commit</th><td>{origin["commit"]}</td></tr>' in html
    assert "<td>lr: 0.01 → 0.1</td>" in html


def test_a_sweep_with_one_value_is_skipped_with_a_note(
    workspace: Path, no_pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(workspace)
    path = workspace / "configs/aggregate.yaml"
    settings = yaml.safe_load(path.read_text())
    del settings["variants"]["l2_0"]
    path.write_text(yaml.safe_dump(settings, sort_keys=False))

    run_stage("aggregate")

    lines = capsys.readouterr().out.splitlines()
    assert "note: no figure of the sweep l2: fewer than two of its values are in the study" in lines
    assert "figure: results/figures/sweep_learning_rate.png" in lines
    assert "figure: results/figures/sweep_l2.png" not in lines


@pytest.mark.parametrize(
    "name",
    [
        *("metrics/seed-2/run.json", "metrics/seed-1/gradients.json"),
        *("evaluation/diagnostics.json", "evaluation/mistakes.json"),
    ],
)
def test_a_missing_file_ends_the_stage_with_one_line(workspace: Path, name: str) -> None:
    write_study(workspace)
    (workspace / "runs/resnet20" / name).unlink()

    with pytest.raises(SystemExit) as caught:
        run_stage("aggregate")

    assert str(caught.value.code) == (
        f"error: runs/resnet20/{name}: no such file, though the study names this variant and seed; dvc repro makes it"
    )
    assert not Path("results").exists()
