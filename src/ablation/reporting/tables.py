"""The ablation as tables: for people (Markdown, terminal), for DVC (metrics, plots)."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis.comparability import sweep_obstacle
from ablation.analysis.differences import mean_interval
from ablation.analysis.params import ReportParams

OFFICIAL = "cifar10"  # data/params.py keeps this label for the official archive
SWEEP_COLUMNS = ["sweep", "title", "setting", "value", "position", "variant", "seed", "data"]
SWEEP_COLUMNS += ["val_accuracy", "test_accuracy", "diverged_epoch"]
LEGEND = """\
Accuracy: mean ± 95 % confidence interval over n seeds, each with the weights of its best validation epoch, so the
validation accuracy is biased upwards. Multiply-adds: to evaluate one image. Seconds: training of one seed, mean over
seeds; CPU time if the seed ran on one CPU thread; if seeds share a GPU, each seed's share of the time. A run that
diverged ended early."""


def data_name(label: str) -> str:
    """The data's name for titles and headings, worded so that nobody mistakes other data for the official ones."""
    return "official CIFAR-10" if label == OFFICIAL else f"{label}, not official CIFAR-10"


def warning(label: str) -> str:
    """A paragraph of Markdown that warns of data other than the official ones; empty for those."""
    if label == OFFICIAL:
        return ""
    told = f"These are {label}, not official CIFAR-10. Nothing here is comparable with published CIFAR-10 results."
    return f"> **{told}**\n\n"


def summary(runs: pd.DataFrame) -> dict[str, Any]:
    """Accuracy per variant for DVC: {variant: {"val": {"mean", "sd"}, "test": {"mean", "sd"}, "n"}}.

    Means and sample standard deviations over seeds, to 4 decimals; sd is None with one seed.
    """
    splits = ("val", "test")
    return {
        str(variant): {split: _mean_and_sd(group[f"{split}_accuracy"]) for split in splits} | {"n": len(group)}
        for variant, group in runs.groupby("variant", sort=False)
    }


def with_num_images(runs: pd.DataFrame, num_images: Mapping[str, int]) -> pd.DataFrame:
    """results/ablation.csv: `runs` and the numbers of images that its accuracies are measured on."""
    return runs.assign(**{f"{split}_images": num_images[split] for split in ("train", "val", "test")})


def best_first(runs: pd.DataFrame) -> list[str]:
    """The variants by mean validation accuracy: ranking by test accuracy would flatter the first."""
    means = runs.groupby("variant", sort=False)["val_accuracy"].mean()
    return means.sort_values(ascending=False, kind="stable").index.to_list()


def accuracy_text(values: "pd.Series[float]", num_images: int) -> str:
    """Mean accuracy over seeds ± half its 95 % interval's width, in percent; the mean alone where there is none."""
    interval = mean_interval(np.array(values, dtype=np.float64), 1 / num_images)
    spread = "" if interval is None else f" ± {50 * (interval[1] - interval[0]):.2f}"
    return f"{100 * values.mean():.2f}{spread}"


def accuracy_rows(runs: pd.DataFrame, num_images: Mapping[str, int]) -> list[dict[str, str]]:
    """The cells of one row per variant, by heading, best first; `num_images` by split."""
    rows = []
    for variant in best_first(runs):
        mine = runs[runs["variant"] == variant]
        accuracies = {split: accuracy_text(mine[f"{split}_accuracy"], num_images[split]) for split in ("val", "test")}
        rows.append(
            {
                "variant": variant,
                "n": str(len(mine)),
                **{f"{split} accuracy, %": accuracy for split, accuracy in accuracies.items()},
                "parameters": f"{mine['parameters'].iloc[0]:,}",
                "multiply-adds, M": f"{mine['multiply_adds'].iloc[0] / 1e6:.2f}",
                "seconds": f"{mine['seconds'].mean():,.1f}",
                "notes": divergences(mine),
            }
        )
    return rows


def markdown(runs: pd.DataFrame, num_images: Mapping[str, int], label: str) -> str:
    """The ablation table as a Markdown page."""
    return f"# Ablation on {data_name(label)}\n\n{warning(label)}{_table(runs, num_images, 'pipe')}\n\n{LEGEND}\n"


def text(runs: pd.DataFrame, num_images: Mapping[str, int], label: str) -> str:
    """The same table for a terminal, under lines that name the data and what an accuracy is."""
    heading = (
        f"Ablation on {data_name(label)}\nmean ± 95 % confidence interval over n seeds, best validation accuracy first"
    )
    return f"{heading}\n\n{_table(runs, num_images, 'simple')}\n"


def divergences(runs: pd.DataFrame) -> str:
    """Which of a variant's seeds diverged at which epoch, or nothing."""
    diverged = runs.dropna(subset="diverged_epoch").groupby("diverged_epoch")["seed"]
    return "; ".join(
        f"diverged at epoch {epoch} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"
        for epoch, seeds in diverged
    )


def sweep_points(params: ReportParams, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per sweep, variant in the study and seed, for the sweeps without a `sweep_obstacle`.

    `position` is where `value` stands on a log axis: 0, which has no place there, is put a decade below the smallest
    other value.
    """
    sweeps = [pd.DataFrame(columns=SWEEP_COLUMNS)]
    for name, sweep in params.sweeps.items():
        if sweep_obstacle(sweep, params.variants):
            continue
        values = {
            variant: params.variants[variant][sweep.setting] for variant in sweep.variants if variant in params.variants
        }
        points = runs[runs["variant"].isin(values)].assign(sweep=name, title=sweep.title, setting=sweep.setting)
        points["value"] = points["variant"].map(values).astype(float)
        smallest = points["value"].where(points["value"] > 0).min()
        points["position"] = points["value"].where(points["value"] > 0, smallest / 10)
        sweeps.append(points.sort_values(["value", "variant", "seed"])[SWEEP_COLUMNS])
    return pd.concat(sweeps[1:] or sweeps, ignore_index=True)


def _table(runs: pd.DataFrame, num_images: Mapping[str, int], layout: str) -> str:
    rows = accuracy_rows(runs, num_images)
    return text_table(rows, layout, right=[key for key in rows[0] if key not in ("variant", "notes")])


def text_table(rows: list[dict[str, str]], layout: str, right: Collection[str] = ()) -> str:
    """A table in one of the formats of tabulate, which pandas calls; right: the columns aligned to the right."""
    if layout == "pipe":
        rows = [{key: cell.replace("|", "\\|") for key, cell in cells.items()} for cells in rows]
    alignment = ["right" if key in right else "left" for key in rows[0]]
    return str(pd.DataFrame(rows).to_markdown(index=False, tablefmt=layout, colalign=alignment, disable_numparse=True))


def _mean_and_sd(values: "pd.Series[float]") -> dict[str, float | None]:
    return {"mean": round(values.mean(), 4), "sd": round(values.std(ddof=1), 4) if len(values) > 1 else None}
