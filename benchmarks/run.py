"""Measure everything and write the tables into docs/performance.md. Usage: make bench, or python -m benchmarks.run."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ablation.common.files import write_text
from ablation.common.settings import read_yaml
from ablation.data.splits import Statistics, read_split, write_split, write_statistics
from benchmarks.harness import PROJECT, machine, table
from benchmarks.sections import GROUPS, Report
from benchmarks.speed import ALL_IMAGES, Setting

DOCUMENT = PROJECT / "docs" / "performance.md"
BEGIN, END = "<!-- measured by make bench on {} -->", "<!-- end of what make bench measured on {} -->"


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        splits, label = arguments.splits, arguments.label
        if splits is None and num_training_images(PROJECT / "data/splits") >= ALL_IMAGES:
            splits, label = PROJECT / "data/splits", read_yaml(PROJECT / "configs/aggregate.yaml")["label"]
        elif splits is None:
            splits, label = folder / "splits", "random pixels and labels (no images found)"
            write_random(splits)
        report = Report(Setting(splits, arguments.device, arguments.rounds), folder)
        for group in arguments.only or GROUPS:
            print(f"measuring {group} ...", file=sys.stderr, flush=True)
            GROUPS[group](report)
            print(report.sections[-1], file=sys.stderr, flush=True)
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    targets = table(["target", "required", "reached", ""], [target.row for target in report.targets])
    text = "\n\n".join([machine(label, device), f"### Targets\n\n{targets}", *report.sections])
    print(text)
    if not arguments.only:
        write_text(DOCUMENT, replace_measured(DOCUMENT.read_text(encoding="utf-8"), text, arguments.device))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure everything and write the tables into docs/performance.md.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--splits", type=Path, help="folder of the images, if not data/splits")
    parser.add_argument("--label", help="names the images of --splits")
    parser.add_argument("--rounds", type=int, choices=range(1, 100), metavar="N", default=3, help="of every comparison")
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), help="print these groups, write nothing")
    arguments = parser.parse_args()
    if (arguments.splits is None) != (arguments.label is None):
        parser.error("--splits and --label go together")
    if arguments.splits is not None and (found := num_training_images(arguments.splits)) < ALL_IMAGES:
        parser.error(f"--splits {arguments.splits}: {found:,} training images; {ALL_IMAGES:,} are needed")
    if not arguments.only:
        try:
            replace_measured(DOCUMENT.read_text(encoding="utf-8"), "", arguments.device)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        if problem := not_as_committed():
            parser.error(problem)
    return arguments


def not_as_committed() -> str | None:
    """Why the tables would not be for the default settings, as all rows must be; None where they would."""
    command = ["git", "status", "--porcelain", "--", "params.yaml"]
    status = subprocess.run(command, cwd=PROJECT, capture_output=True)
    if status.returncode:
        return f"{PROJECT} is not a git repository; the pipeline is measured in a copy of the files that git lists"
    return "params.yaml differs from the last commit's, with which the tables are measured" if status.stdout else None


def num_training_images(splits: Path) -> int:
    """Number of training images in the folder `splits`; 0 where it has no train.safetensors."""
    path = splits / "train.safetensors"
    return len(read_split(path).labels) if path.is_file() else 0


def write_random(folder: Path) -> None:
    """Splits of random pixels in place of images: 45,000 for training, 5,000 for validation."""
    generator = torch.Generator().manual_seed(0)
    counts = {"train": ALL_IMAGES, "val": 5_000, "test": 0}
    for name in ("train", "val"):
        images = torch.randint(256, (counts[name], 3, 32, 32), dtype=torch.uint8, generator=generator)
        write_split(folder / f"{name}.safetensors", images, torch.randint(10, (counts[name],), generator=generator))
    classes = [f"class {i}" for i in range(10)]
    write_statistics(folder / "statistics.json", Statistics((0.5,) * 3, (0.29,) * 3, classes), counts)


def replace_measured(document: str, text: str, device: str) -> str:
    """`document` with `text` between the two marks of `device`. Raises ValueError where they are missing."""
    begin, end = BEGIN.format(device), END.format(device)
    before, _, rest = document.partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"{DOCUMENT}: must hold the lines {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


if __name__ == "__main__":
    main()
