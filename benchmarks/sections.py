"""One function per section of the report: measure, and put into words what came out."""

import json
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import pipeline, speed
from benchmarks.harness import PROJECT, Results, best, comparison, environment, number, ratio, stage_command, table

# Per measurement: images for our loop and for theirs, and epochs of two seeds in parallel
AMOUNTS = {
    "simple_nn_aug": (15_000, 6_400, 10),
    "simple_nn_bn_swish": (15_000, 6_400, 10),
    "resnet20": (1_280, 1_280, 1),
}
NUM_OPERATIONS = 10  # of each network in the profile


@dataclass(frozen=True)
class Target:
    what: str
    reached: float
    bound: float
    at_least: bool  # else at most
    unit: str

    @property
    def row(self) -> list[str]:
        met = self.reached >= self.bound if self.at_least else self.reached <= self.bound
        sign = "≥" if self.at_least else "≤"
        return [
            self.what,
            f"{sign} {self.bound:g}{self.unit}",
            f"{self.reached:.2f}{self.unit}",
            "met" if met else "missed",
        ]


@dataclass
class Report:
    """What has been measured so far."""

    setting: speed.Setting
    folder: Path  # for scratch files
    sections: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    trained: dict[str, Results] = field(default_factory=dict)
    augmented: Results = field(default_factory=dict)

    def add(self, heading: str, body: str) -> None:
        self.sections.append(f"### {heading}\n\n{body}")

    def at_least(self, what: str, reached: float, bound: float) -> None:
        self.targets.append(Target(what, reached, bound, True, "×"))

    def at_most(self, what: str, reached: float, bound: float) -> None:
        self.targets.append(Target(what, reached, bound, False, " s"))


def simple_nn(report: Report) -> None:
    _training(report, "SimpleNN with augmentation", "simple_nn_aug", one_seed=6, two_seeds=8)


def simple_nn_bn_swish(report: Report) -> None:
    _training(report, "SimpleNN with augmentation, batch norm and Swish", "simple_nn_bn_swish")


def resnet20(report: Report) -> None:
    _training(report, "ResNet-20", "resnet20", one_seed=1.25, two_seeds=1.5)


def _training(
    report: Report, title: str, variant: str, one_seed: float | None = None, two_seeds: float | None = None
) -> None:
    """one_seed, two_seeds: the target ratios to the best DataLoader loop, if any."""
    results, loops = speed.training(report.setting, variant, *AMOUNTS[variant])
    report.trained[variant] = results
    reference = best(results, loops)
    wanted = {speed.one_seed(n): one_seed for n in report.setting.threads} | {speed.TWO_SEEDS: two_seeds}
    for name, bound in wanted.items():
        if bound is not None:
            report.at_least(f"{title}: {name}", ratio(results, name, reference), bound)
    usual = best(results, [name for name in loops if "PIL" in name])
    against = "; ".join(f"{name} ×{ratio(results, name, usual):.2f}" for name in wanted)
    body = f"{comparison(results, loops, 'images/s')}\n\nAgainst “{usual}”, the usual loop: {against}."
    if report.setting.device == "cpu":
        apart = ratio(results, speed.TWO_SEEDS, speed.TWO_LOOPS)
        body += f"\n\nAgainst “{speed.TWO_LOOPS}”: {speed.TWO_SEEDS} ×{apart:.2f}."
        allocator = ratio(results, speed.one_seed(1), speed.DEFAULT_ALLOCATOR)
        body += f"\n\nThe allocator settings of dvc.yaml alone: ×{allocator:.2f} for one seed on one thread."
    report.add(f"Training, {title}", body)


def augmentation(report: Report) -> None:
    report.augmented = results = speed.augmentation(report.setting)
    loops = [name for name in results if name.startswith("torchvision")]
    reference = best(results, loops)
    for name in [name for name in results if name.startswith("ours")]:
        report.at_least(f"Augmentation alone: {name}", ratio(results, name, reference), 20)
    report.add("Augmentation alone", comparison(results, loops, "images/s"))


def seeds(report: Report) -> None:
    results = speed.seeds(report.setting)
    report.add("Number of seeds of one variant", comparison(results, ["1 seed"], "total images/s"))


def costs(report: Report) -> None:
    results = speed.costs(report.setting)
    report.add("Batch size and number of images", comparison(results, ["batch size 128"], "images/s"))


def peaks(report: Report) -> None:
    """Relates other groups' figures to the machine's limits; runs first those that have not been run."""
    groups = {"simple_nn_aug": simple_nn, "simple_nn_bn_swish": simple_nn_bn_swish, "resnet20": resnet20}
    for variant, group in groups.items():
        if variant not in report.trained:
            group(report)
    if not report.augmented:
        augmentation(report)
    results = speed.peaks(report.setting, list(groups))
    shares = speed.peak_table(results, report.trained, report.augmented, report.setting.threads)
    report.add("Share of the machine's measured peak", shares)


def profile(report: Report) -> None:
    """Profile of an eager step on one thread: the largest operations of each network."""
    variants = {"SimpleNN": "simple_nn_aug", "with batch norm and Swish": "simple_nn_bn_swish", "ResNet-20": "resnet20"}
    steps = {}
    for title, variant in variants.items():
        arguments = report.setting.arguments(variant=variant, num_images=1_280, num_threads=1)
        command = [*stage_command(), "-m", "benchmarks.profile", json.dumps(arguments)]
        out = subprocess.run(command, cwd=PROJECT, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
        steps[title] = json.loads(out.stdout)
    report.add("A training step of 128 images by operation, one thread", profile_table(steps))


def profile_table(steps: dict[str, dict[str, float]]) -> str:
    """Network -> operation -> milliseconds of a step, as one table; small operations are summed."""
    largest = {name for times in steps.values() for name in sorted(times, key=lambda n: -times[n])[:NUM_OPERATIONS]}
    totals = {title: sum(times.values()) for title, times in steps.items()}
    columns = {
        title: {name: times.get(name, 0.0) for name in largest}
        | {"all others": sum(time for name, time in times.items() if name not in largest), "sum": totals[title]}
        for title, times in steps.items()
    }
    first = next(iter(steps))
    names = [*sorted(largest, key=lambda name: -columns[first][name]), "all others", "sum"]
    cells = [
        [f"{columns[title][name]:.2f} ms ({columns[title][name] / totals[title]:.0%})" for title in steps]
        for name in names
    ]
    return table(["", *steps], [[name.removeprefix("aten::"), *row] for name, row in zip(names, cells, strict=True)])


def start(report: Report) -> None:
    setting = report.setting
    times = pipeline.train_stage(setting.splits, setting.device, report.folder / "start", setting.rounds)
    rows = []
    for name, measured in times.items():
        wall, training = statistics.median(measured.wall), statistics.median(measured.training)
        rows.append([name, number(wall), number(training), number(measured.fixed)])
        report.at_most(f"Fixed cost of a train stage: {name}", measured.fixed, 5)
    header = ["", "whole stage, s", "training, s", "fixed cost, s"]
    report.add("A train stage of one seed and one epoch, two threads", table(header, rows))


def dvc(report: Report) -> None:
    rows = []
    default = pipeline.default_variants()
    for variants in (5, default):
        first, again = pipeline.dvc_overhead(report.folder / f"dvc-{variants}", variants, report.setting.rounds)
        what = f"{variants} variants" + (" (the default study)" if variants == default else "")
        stages = 2 * variants + 4
        rows.append([what, str(stages), number(first), f"{first / stages:.2f}", number(again)])
        if variants == default:
            report.at_most("`dvc repro` of the default study with nothing to do", again, 3)
    header = ["", "stages", "first repro, s", "s per stage", "no-op repro, s"]
    report.add("DVC alone: stages that only copy their outputs into place", table(header, rows))


def demo(report: Report) -> None:
    wall, stages = pipeline.demo_share(report.folder / "demo")
    header = ["", "whole command, s", "its stage commands, s", "DVC, s", "DVC's share"]
    row = ["experiment of `make demo`", number(wall), number(stages), number(wall - stages), f"{1 - stages / wall:.0%}"]
    report.add("DVC's share of the demo", table(header, [row]))


GROUPS: dict[str, Callable[[Report], None]] = {
    group.__name__: group
    for group in (simple_nn, simple_nn_bn_swish, resnet20, augmentation, peaks, profile, seeds, costs, start, dvc, demo)
}
