"""Contenders in processes of their own, measured in turn, and the tables of their results."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ablation.common.settings import read_yaml
from ablation.models.device import cpu_model

PROJECT = Path(__file__).parents[1]
Results = dict[str, list[float]]  # contender -> its figure in each round; empty where a package is missing


@dataclass(frozen=True)
class Contender:
    """One row: `work` is a function of benchmarks/worker.py, called with `arguments`."""

    name: str
    work: str
    arguments: dict[str, Any] = field(default_factory=dict)
    as_stage: bool = False  # started as dvc.yaml starts a stage, with its allocator settings; else as a user would
    processes: int = 1  # in parallel; their figures are summed


def stage_command() -> list[str]:
    """How dvc.yaml starts Python, environment included."""
    for variables in read_yaml(PROJECT / "dvc.yaml")["vars"]:
        if "python" in variables:
            return shlex.split(variables["python"])
    raise AssertionError("dvc.yaml has no variable `python`")


def environment() -> dict[str, str]:
    """This Python first on the path, so that `python` in dvc.yaml's commands is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    sources = os.pathsep.join(filter(None, ["src", os.environ.get("PYTHONPATH")]))
    return os.environ | {"PATH": path, "PYTHONPATH": sources}


def measure(contenders: list[Contender], rounds: int) -> Results:
    """Figures of every contender in each of `rounds` rounds, measured in turn.

    Start and warm-up run in parallel, half as many contenders at a time as there are cores: on two cores, one by one.
    """
    at_a_time = max(1, cores() // 2)
    with ExitStack() as stack:
        workers: dict[str, list[Worker]] = {}
        for i in range(0, len(contenders), at_a_time):
            some = contenders[i : i + at_a_time]
            started = {c.name: [_start(stack, c) for _ in range(c.processes)] for c in some}
            for name, group in started.items():
                ready = [worker.ready() for worker in group]
                workers[name] = group if all(ready) else []
        results: Results = {name: [] for name in workers}
        for _ in range(rounds):
            for name, group in workers.items():
                for worker in group:
                    worker.ask()
                figures = [worker.answer() for worker in group]
                results[name] += [sum(map(float, figures))] if figures else []
    return results


class Worker:
    """A process of benchmarks/worker.py."""

    def __init__(self, contender: Contender) -> None:
        command = stage_command() if contender.as_stage else [sys.executable]
        self.command = [*command, "-m", "benchmarks.worker", contender.work, json.dumps(contender.arguments)]
        self.process = subprocess.Popen(
            self.command, cwd=PROJECT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ready(self) -> bool:
        """Waits for the warm-up; False where a package is missing."""
        return self.answer() == "ready"

    def ask(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which `answer` reports
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{shlex.join(self.command)} ended with {self.process.wait()}")
        return line

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def _start(stack: ExitStack, contender: Contender) -> Worker:
    worker = Worker(contender)
    stack.callback(worker.end)
    return worker


def ratio(results: Results, name: str, baseline: str) -> float:
    """Median over the rounds of the ratio of `name` to `baseline`: within a round both saw the same machine."""
    return statistics.median(a / b for a, b in zip(results[name], results[baseline], strict=True))


def best(results: Results, names: list[str]) -> str:
    """The one of `names` with the highest median."""
    return max(filter(results.__getitem__, names), key=lambda name: statistics.median(results[name]))


def comparison(results: Results, baselines: list[str], unit: str) -> str:
    """Median, range and ratio to the best of `baselines`, one row per contender."""
    reference = best(results, baselines)
    rows = []
    for name, figures in results.items():
        if figures:
            span = f"{number(min(figures))} to {number(max(figures))}"
            against = f"{ratio(results, name, reference):.2f}" + (" (reference)" if name == reference else "")
            rows.append([name, number(statistics.median(figures)), span, against])
        else:
            rows.append([name, "package not installed", "", ""])
    return table(["", unit, "range", "ratio"], rows)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table: text on the left, figures on the right."""
    align = ["left", *["right"] * (len(header) - 1)]
    return str(tabulate(rows, header, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None))


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # most groups need no DVC
        return "absent"


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(label: str, device: str) -> str:
    """Where and when a table was measured."""
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision", "dvc"))
    return (
        f"{cpu_model()}, {cores()} cores; {platform.system()} {platform.release()}; device {device}; "
        f"Python {platform.python_version()}, {versions}; data: {label}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    )
