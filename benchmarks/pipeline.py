"""The pipeline's overhead around training: a stage's start, DVC itself, and DVC's share of the demo."""

import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation.common.files import write_text
from ablation.common.settings import read_yaml, write_yaml
from ablation.configuration.study import resolve
from ablation.data.splits import Split, read_split, read_statistics, write_split, write_statistics
from benchmarks.harness import PROJECT, environment, stage_command

VARIANT = "simple_nn_aug"


@dataclass(frozen=True)
class StageTimes:
    """Wall-clock seconds of each run of a train stage of one epoch, and the seconds of training in it."""

    wall: list[float]
    training: list[float]

    @property
    def fixed(self) -> float:
        return statistics.median(wall - training for wall, training in zip(self.wall, self.training, strict=True))


def train_stage(splits: Path, device: str, folder: Path, rounds: int) -> dict[str, StageTimes]:
    """Times `python stages/train.py` from start to exit, on one batch and on the whole of `splits`, in turn."""
    _write_one_batch(splits, folder / "one batch" / "data" / "splits")
    (folder / "all images" / "data").mkdir(parents=True)
    (folder / "all images" / "data" / "splits").symlink_to(splits.resolve())
    settings = resolve(str(PROJECT / "params.yaml"))[1][VARIANT].model_dump()
    times = {name: StageTimes([], []) for name in ("one batch", "all images")}
    for name in times:
        for part in ("src", "stages"):
            shutil.copytree(PROJECT / part, folder / name / part, ignore=shutil.ignore_patterns("__pycache__"))
        config = folder / name / "configs" / "train" / f"{VARIANT}.yaml"
        # Two threads: with one, the stage records CPU time, not wall-clock time.
        write_yaml(config, settings | {"device": device, "epochs": 1, "seeds": [0], "num_threads": 2})
    for round_ in range(1 + rounds):  # the first, a warm-up, compiles Python's files and the kernels
        for name, measured in times.items():
            for left in ("runs", ".dvc/tmp/checkpoints"):  # the compiled kernels stay, as after a first train stage
                shutil.rmtree(folder / name / left, ignore_errors=True)
            wall = _run([*stage_command(), "stages/train.py", VARIANT], folder / name)
            if round_:
                timing = folder / name / "runs" / VARIANT / "timing" / "seed-0" / "metrics.json"
                measured.wall.append(wall)
                measured.training.append(json.loads(timing.read_text())["seconds"])
    return times


def _write_one_batch(splits: Path, target: Path) -> None:
    counts = {"train": 128, "val": 128, "test": 0}
    for name in ("train", "val"):
        split = read_split(splits / f"{name}.safetensors")
        part = Split(split.images[: counts[name]], split.labels[: counts[name]])
        write_split(target / f"{name}.safetensors", *part)
    write_statistics(target / "statistics.json", read_statistics(splits / "statistics.json"), counts)


def default_variants() -> int:
    return len(read_yaml(PROJECT / "params.yaml")["study"])


def dvc_overhead(folder: Path, num_variants: int, rounds: int) -> tuple[float, float]:
    """Seconds of the first `dvc repro` and of one with nothing to do (median), of stages that only copy their outputs.

    The study is the first `num_variants` of the default one.
    """
    clone(folder)
    study = read_yaml(folder / "params.yaml")["study"][:num_variants]
    write_yaml(folder / "params.yaml", read_yaml(folder / "params.yaml") | {"study": study})
    pipeline = read_yaml(folder / "dvc.yaml")
    for name, stage in pipeline["stages"].items():
        matrix = "matrix" in stage
        for item in study if matrix else [""]:
            _write_outputs(folder / "prepared" / name / item, pipeline["stages"], name, item, study)
        stage["cmd"] = f"cp -R prepared/{name}/{'${item.variant}' if matrix else ''}/. ."
    pipeline.pop("plots", None)
    write_yaml(folder / "dvc.yaml", pipeline)
    first = _run([sys.executable, "-m", "dvc", "repro", "--quiet"], folder)
    again = [_run([sys.executable, "-m", "dvc", "repro", "--quiet"], folder) for _ in range(rounds)]
    return first, statistics.median(again)


def _write_outputs(target: Path, stages: dict[str, Any], name: str, item: str, study: list[str]) -> None:
    """Every output of a stage as a small file, or as a folder of those that other stages depend on."""

    def expand(path: str, variant: str) -> str:
        return path.replace("${item.variant}", variant)

    needed = {expand(dep, variant) for stage in stages.values() for dep in stage["deps"] for variant in study}
    for entry in [out for kind in ("outs", "metrics", "plots") for out in stages[name].get(kind, [])]:
        out = Path(expand(next(iter(entry)) if isinstance(entry, dict) else entry, item))
        inside = [path for path in needed if Path(path).is_relative_to(out) and Path(path) != out]
        for path in inside or [str(out if out.suffix else out / "file")]:
            write_text(target / path, f"{name} {item} {path}\n")


def demo_share(folder: Path) -> tuple[float, float]:
    """Seconds of the demo's experiment, and of the stage commands in it: each is timed from outside by a wrapper."""
    clone(folder)
    log = folder.resolve() / ".dvc" / "tmp" / "stage-seconds"
    log.parent.mkdir(parents=True, exist_ok=True)
    wrapper = folder.resolve() / ".dvc" / "tmp" / "timed.py"
    write_text(wrapper, TIMED)
    timed = shlex.join([sys.executable, "-S", "-E", str(wrapper), str(log), *stage_command()])
    write_yaml(folder / "dvc.yaml", read_yaml(folder / "dvc.yaml") | {"vars": [{"python": timed}]})
    commit(folder)
    wall = _run(["sh", "-c", demo_command()], folder)
    return wall, sum(map(float, log.read_text().split()))


TIMED = """\
import subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "a") as log:
    print(time.perf_counter() - start, file=log)
sys.exit(code)
"""


def demo_command() -> str:
    """The command by which `make demo` runs its experiment."""
    lines = subprocess.run(["make", "--dry-run", "demo"], cwd=PROJECT, check=True, capture_output=True, text=True)
    match = re.search(r"^dvc exp run(.*\\\n)*.*$", lines.stdout, re.MULTILINE)
    assert match is not None, "make demo has no line `dvc exp run`"
    return match[0]


def clone(folder: Path) -> None:
    """The project's files, tracked or new, without data and results, as a git repository of one commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (PROJECT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    commit(folder)


def commit(folder: Path) -> None:
    """Commit all that is in `folder`."""
    settings = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    subprocess.run(["git", *settings, "commit", "--quiet", "--message", "bench"], cwd=folder, check=True)


def _run(command: list[str], folder: Path) -> float:
    """Wall-clock seconds of `command` in `folder`. Raises RuntimeError with its output where it fails."""
    settings = environment() | {
        f"DVC_{kind}": os.fspath(folder.parent / kind.lower())
        for kind in ("GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR", "SITE_CACHE_DIR")
    }
    start = time.perf_counter()
    ended = subprocess.run(
        command, cwd=folder, env=settings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{shlex.join(command)} in {folder} ended with {ended.returncode}:\n{ended.stdout}")
    return time.perf_counter() - start
