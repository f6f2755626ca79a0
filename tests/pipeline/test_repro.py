"""The whole pipeline under DVC on the digits: what a change reruns, and that two clones agree bit for bit."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

INHERITS, OWN = "simple_nn", "simple_nn_lr_1e-1"  # variants that inherit train.lr, and set it
TRAIN = [f"train@{INHERITS}", f"train@{OWN}"]
EVALUATE = [f"evaluate@{INHERITS}", f"evaluate@{OWN}"]
STAGES = ["configure", "download", "normalize", *TRAIN, *EVALUATE, "aggregate"]


class Run:
    """A DVC command in the background; `ran` waits for its end and gives the stages it ran, in their order."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ran(self) -> list[str]:
        output, _ = self.process.communicate()
        assert self.process.returncode == 0, output
        return re.findall(r"^Running stage '(\S+)'", output, re.MULTILINE)


def locked(folder: Path) -> dict[str, str]:
    """Output -> its hash in dvc.lock."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n# another line\n")


def assert_files_are_as_promised(folder: Path, environment: dict[str, str]) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    files = [path for part in ("runs", "results", "data") for path in (folder / part).rglob("*") if path.is_file()]
    documents = [path for path in files if path.suffix == ".json"]
    assert {path.name for path in documents} >= {"run.json", "metrics.json", "summary.json", "statistics.json"}
    for path in documents:
        json.loads(path.read_text(), parse_constant=no_constant)
    for variant in (INHERITS, OWN):  # the weights kept evaluate to the accuracy that training found
        run = json.loads((folder / f"runs/{variant}/metrics/seed-0/run.json").read_text())
        (evaluated,) = json.loads((folder / f"runs/{variant}/evaluation/metrics.json").read_text())["seeds"]
        assert evaluated["val"]["accuracy"] == run["best_val_accuracy"]
    assert [path for path in files if path.name in ("dvc.yaml", "dvc.lock") or path.name.startswith(".")] == []
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert status.stdout == "?? dvc.lock\n"


def assert_same_bits(ours: dict[str, str], theirs: dict[str, str]) -> None:
    """All but the timings is the same: data, weights, metrics, predictions."""
    clock = {f"runs/{variant}/timing" for variant in (INHERITS, OWN)}
    same = {path for path in ours if path not in clock and not path.startswith("results/")}
    runs = {f"runs/{variant}/{part}" for variant in (INHERITS, OWN) for part in ("weights", "metrics")}
    assert same >= {"data/raw", "data/splits", *runs}
    assert {path: theirs[path] for path in same} == {path: ours[path] for path in same}


def test_reruns_what_a_change_can_alter_and_nothing_else(project, tmp_path, environment):
    clone = tmp_path / "elsewhere" / "clone"
    subprocess.run(["git", "clone", "--quiet", project, clone], env=environment, check=True)

    def run(*arguments: str, folder: Path = project) -> Run:
        return Run(folder, environment, *arguments)

    here, there = run("repro"), run("repro", *EVALUATE, folder=clone)
    assert sorted(here.ran()) == sorted(STAGES)
    assert sorted(there.ran()) == sorted(set(STAGES) - {"aggregate"})
    assert_same_bits(locked(project), locked(clone))
    assert_files_are_as_promised(project, environment)
    (project / f"runs/{OWN}/evaluation/.metrics.json.8h_x2k0a").touch()  # as a kill in the middle of a write leaves it
    assert run("repro").ran() == []

    edit(project / "src/ablation/reporting/tables.py")
    assert run("repro").ran() == ["aggregate"]

    # The same bits of weights need no new evaluation; aggregate reports the new timing.
    before = locked(project)
    edit(project / "src/ablation/training/loop.py")
    assert sorted(run("repro").ran()) == sorted([*TRAIN, "aggregate"])
    assert_same_bits(before, locked(project))

    experiment = run("exp", "run", "--set-param", "train.lr=0.02").ran()
    assert sorted(experiment) == sorted(["configure", f"train@{INHERITS}", f"evaluate@{INHERITS}", "aggregate"])
    after = locked(project)
    changed = {path for path in after if path.endswith("/weights") and after[path] != before[path]}
    assert changed == {f"runs/{INHERITS}/weights"}

    # A variant that leaves the study leaves `runs`, even if DVC restores the stage configure from its cache.
    params = yaml.safe_load((project / "params.yaml").read_text())
    for study in ([INHERITS], [INHERITS, OWN], [INHERITS]):
        (project / "params.yaml").write_text(yaml.safe_dump(params | {"study": study}))
        run("repro").ran()
        assert sorted(path.name for path in (project / "runs").iterdir()) == study
    assert run("repro").ran() == []
