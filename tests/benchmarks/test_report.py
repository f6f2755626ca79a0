import os
import subprocess
from pathlib import Path

import pytest
import torch

from ablation.data.splits import write_split
from benchmarks import harness, pipeline, sections
from benchmarks.harness import Contender
from benchmarks.run import BEGIN, END, parse, replace_measured
from benchmarks.sections import Target

RESULTS = {"ours": [900.0, 1100.0, 1000.0], "slow": [90.0, 100.0, 125.0], "slower": [10.0, 20.0, 15.0], "absent": []}


def test_comparison_relates_each_to_the_best_baseline_of_its_own_round() -> None:
    assert harness.best(RESULTS, ["slower", "slow", "absent"]) == "slow"
    assert harness.ratio(RESULTS, "ours", "slow") == 10.0  # the median of 10, 11 and 8
    assert harness.comparison(RESULTS, ["slower", "slow", "absent"], "images/s").splitlines() == [
        "|        |              images/s |        range |            ratio |",
        "|:-------|----------------------:|-------------:|-----------------:|",
        "| ours   |                 1,000 | 900 to 1,100 |            10.00 |",
        "| slow   |                   100 |    90 to 125 | 1.00 (reference) |",
        "| slower |                    15 |     10 to 20 |             0.12 |",
        "| absent | package not installed |              |                  |",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (9.996, "10"), (123.4, "123"), (12_345, "12,300")]
)
def test_numbers_have_three_significant_digits(value, text) -> None:
    assert harness.number(value) == text


def test_a_target_is_met_at_its_bound() -> None:
    assert Target("speed", 6.0, 6, True, "×").row == ["speed", "≥ 6×", "6.00×", "met"]
    assert Target("speed", 5.99, 6, True, "×").row == ["speed", "≥ 6×", "5.99×", "missed"]
    assert Target("cost", 5.01, 5, False, " s").row == ["cost", "≤ 5 s", "5.01 s", "missed"]


def test_too_few_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Speeds are measured on a stated number of images; fewer would pass for that many."""
    write_split(tmp_path / "train.safetensors", torch.zeros(9, 3, 32, 32, dtype=torch.uint8), torch.zeros(9))
    monkeypatch.setattr("sys.argv", ["run", "--splits", str(tmp_path), "--label", "few"])
    with pytest.raises(SystemExit):
        parse()
    assert f"error: --splits {tmp_path}: 9 training images; 45,000 are needed\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rounds", "0"], "argument --rounds: invalid choice: 0"),
        ([], "must hold the lines <!-- measured by make bench"),
    ],
)
def test_what_would_fail_at_the_end_is_refused_at_the_start(arguments, told, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "performance.md").write_text("no marks")
    monkeypatch.setattr("benchmarks.run.DOCUMENT", tmp_path / "performance.md")
    monkeypatch.setattr("sys.argv", ["run", *arguments])
    with pytest.raises(SystemExit) as end:
        parse()
    assert end.value.code == 2 and told in capsys.readouterr().err


def test_the_tables_are_of_the_committed_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr("benchmarks.run.PROJECT", tmp_path)
    monkeypatch.setattr("sys.argv", ["run"])

    def refused() -> str:
        with pytest.raises(SystemExit):
            parse()
        return str(capsys.readouterr().err).splitlines()[-1]

    assert f"{tmp_path} is not a git repository" in refused()
    (tmp_path / "params.yaml").write_text("lr: 1\n")
    commit = "-c user.name=Test -c user.email=test@example.org commit --quiet --message all"
    for command in ("init --quiet", "add --all", commit):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    parse()
    (tmp_path / "params.yaml").write_text("lr: 2\n")
    assert "params.yaml differs from the last commit's" in refused()


def test_profile_names_the_largest_operations_of_either_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "NUM_OPERATIONS", 1)
    steps = {"A": {"aten::mm": 6.0, "aten::add": 3.0, "aten::relu": 1.0}, "B": {"aten::add": 15.0, "aten::relu": 5.0}}
    assert sections.profile_table(steps).splitlines() == [
        "|            |               A |               B |",
        "|:-----------|----------------:|----------------:|",
        "| mm         |   6.00 ms (60%) |    0.00 ms (0%) |",
        "| add        |   3.00 ms (30%) |  15.00 ms (75%) |",
        "| all others |   1.00 ms (10%) |   5.00 ms (25%) |",
        "| sum        | 10.00 ms (100%) | 20.00 ms (100%) |",
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_what_stands_between_the_marks_of_the_device_is_replaced(device: str) -> None:
    cpu, cuda = ((BEGIN.format(name), END.format(name)) for name in ("cpu", "cuda"))
    document = f"# Title\n\n{cpu[0]}\n\nold\n\n{cpu[1]}\n\n{cuda[0]}\n\nold\n\n{cuda[1]}\n\nthe rest\n"
    begin, end = cpu if device == "cpu" else cuda
    expected = document.replace(f"{begin}\n\nold\n\n{end}", f"{begin}\n\nnew\n\n{end}")
    assert replace_measured(document, "new", device) == expected
    assert end in (harness.PROJECT / "docs" / "performance.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"docs/performance\.md: must hold the lines"):
        replace_measured("# Title\n", "new", device)


def test_ours_is_started_as_dvc_starts_a_stage() -> None:
    command = harness.stage_command()
    assert command[0] == "env" and command[-1] == "python"
    assert {"PYTHONPATH=src", "MALLOC_TOP_PAD_=268435456"} <= set(command)


@pytest.mark.parametrize("cores", [2, 8])  # started one by one, and together
def test_workers_answer_round_by_round_and_side_by_side(cores: int, monkeypatch) -> None:
    monkeypatch.setattr(harness, "cores", lambda: cores)
    flop = {"variant": "simple_nn_aug"}
    results = harness.measure([Contender("one", "flop", flop), Contender("two", "flop", flop, processes=2)], 2)
    # By hand: multiply-adds of the layers x 2 FLOP x 3 (forward and two gradients); conv1 has no input gradient.
    conv1, rest = 784 * 8 * 75, 144 * 16 * 72 + 576 * 120 + 120 * 84 + 84 * 10
    assert results == {"one": [2 * (2 * conv1 + 3 * rest)] * 2, "two": [2 * 2 * (2 * conv1 + 3 * rest)] * 2}


def test_a_worker_that_ended_between_two_rounds_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = harness.Worker(Contender("one", "flop", {"variant": "simple_nn_aug"}))
    assert worker.ready()
    worker.end()
    worker.ask()
    with pytest.raises(RuntimeError, match=r"benchmarks\.worker flop .* ended with -9"):
        worker.answer()


def test_stages_that_only_copy_write_every_output_of_theirs(tmp_path: Path) -> None:
    stages = {
        "a": {"deps": ["src"], "outs": ["configs", "raw"]},
        "b": {
            "deps": ["configs/${item.variant}.yaml"],
            "outs": ["runs/${item.variant}/weights"],
            "metrics": ["m.json"],
        },
    }
    pipeline._write_outputs(tmp_path / "a", stages, "a", "", ["x", "y"])
    pipeline._write_outputs(tmp_path / "b", stages, "b", "x", ["x", "y"])
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["a/configs/x.yaml", "a/configs/y.yaml", "a/raw/file", "b/m.json", "b/runs/x/weights/file"]


def test_the_demo_is_the_one_of_the_makefile() -> None:
    command = pipeline.demo_command()
    assert command.startswith("dvc exp run --temp --name demo -S data.source=digits")
    assert command.endswith("-S variants.resnet20.epochs=4")  # on a continuation line
