"""What training and evaluation left on disk, as tidy tables: the variants and seeds of the study and no others."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ablation.analysis import diagnostics
from ablation.analysis.params import ReportParams
from ablation.common.errors import InvalidInput
from ablation.common.files import read_json

LEFT_BY_A_VARIANT = {"weights", "metrics", "timing", "evaluation", ".gitignore"}
CURVES = {  # column -> what dvclive calls it
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "batch_loss_sd": "train/batch_loss_sd",
    "val_loss": "val/loss",
    "val_accuracy": "val/accuracy",
    "lr": "lr",
}


class Study(NamedTuple):
    """All runs of a study, in the order of `study` and `seeds`; what was not finite or never measured is NaN.

    runs: one row per variant and seed. Losses and accuracies are those of the best weights, on images without
    augmentation; `gap` is training minus validation accuracy; `seconds` is the sum over all epochs,
    `images_per_second` the median over them. The measures of analysis/diagnostics.py are columns as well. Last come the
    settings in which the variants differ, as dotted paths.
    curves: one row per variant, seed and epoch (from 1).
    """

    runs: pd.DataFrame
    curves: pd.DataFrame


def read_study(params: ReportParams, folder: Path) -> Study:
    """Everything below `folder` that `params` names. Raises InvalidInput naming the first file that is missing."""
    runs, curves = [], []
    for variant in params.variants:
        seeds = params.seeds[variant]
        evaluated = folder / variant / "evaluation/metrics.json"
        evaluations, place = read_evaluations(evaluated, seeds), read_required(evaluated)["evaluated_on"]
        inside = read_evaluations(folder / variant / "evaluation/diagnostics.json", seeds)
        for seed in seeds:
            facts = read_required(folder / variant / f"metrics/seed-{seed}/run.json")
            diverged = facts["diverged_epoch"] is not None
            curve = _read_series(folder / variant / f"metrics/seed-{seed}", CURVES, diverged)
            timing = _read_series(
                folder / variant / f"timing/seed-{seed}",
                {name: name for name in ("seconds", "images_per_second", "concurrent_seeds")},
                diverged,
            )
            measures = {
                **diagnostics.of_curve(curve, diverged),
                **diagnostics.of_gradients(
                    read_required(folder / variant / f"metrics/seed-{seed}/gradients.json"), diverged
                ),
                **diagnostics.of_network(inside[seed]),
            }
            row = _row(variant, seed, params.label, facts, timing, evaluations[seed], measures)
            runs.append(row | {"evaluated_on": f"{place['device']}, torch {place['torch']}"})
            curve.insert(0, "variant", variant)
            curve.insert(1, "seed", seed)
            curve.insert(2, "data", params.label)
            curves.append(curve.reset_index())
    table = pd.DataFrame(runs).astype(
        {
            "best_epoch": "Int64",
            "diverged_epoch": "Int64",
            "first_batch_loss": float,
            "val_loss": float,
            "test_loss": float,
        }
    )
    columns = ["variant", "seed", "data", "epoch", *CURVES]
    return Study(_with_settings(table, params.variants), pd.concat(curves, ignore_index=True)[columns])


def remove_others(params: ReportParams, folder: Path) -> None:
    """Remove what variants no longer in the study left below `folder`; DVC's cache keeps what their stages finished.

    The stage aggregate depends on the whole folder: dvc.lock would hold a hash that no clone can reproduce. Raises
    InvalidInput at a file or folder that no stage has written, before anything is removed.
    """
    variants = sorted(path for path in folder.iterdir() if not _ignored(path))
    for path in [path for runs in variants for path in _foreign(runs)]:
        raise InvalidInput(f"{path}: no stage has written it; results depend on all of {folder}, so move it elsewhere")
    for runs in (path for path in variants if path.name not in params.variants):
        empty = not any(path.is_file() for path in runs.rglob("*"))  # made by DVC before a first run
        shutil.rmtree(runs)
        if not empty:
            print(f"note: {runs} removed: not in the study; what its stages finished remains in DVC's cache")


def _ignored(path: Path) -> bool:
    """Whether .dvcignore leaves it out, or DVC writes it itself: .gitignore, and what a kill leaves of a checkout."""
    return path.name.startswith(".") or path.name.endswith(("~", ".swp"))


def _foreign(runs: Path) -> list[Path]:
    """What does not belong in `folder`/variant: the path itself where it is no folder of a variant, else its strays."""
    if runs.is_symlink() or not runs.is_dir():
        return [runs]
    strays = sorted(path for path in runs.iterdir() if path.name not in LEFT_BY_A_VARIANT and not _ignored(path))
    return [runs] if strays and not any((runs / name).exists() for name in LEFT_BY_A_VARIANT) else strays


def read_num_images(params: ReportParams, folder: Path) -> dict[str, int]:
    """Split -> number of images on which every variant was evaluated.

    Raises InvalidInput where variants were evaluated on different numbers of images.
    """
    paths = [folder / variant / "evaluation/metrics.json" for variant in params.variants]
    sizes = [read_required(path)["num_images"] for path in paths]
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            told, first = (", ".join(f"{n:,} {split}" for split, n in one.items()) for one in (size, sizes[0]))
            raise InvalidInput(
                f"{path}: accuracies on {told} images are not comparable with those on {first} in {paths[0]}; "
                "dvc repro evaluates them again"
            )
    return dict(sizes[0])


def _row(
    variant: str,
    seed: int,
    label: str,
    facts: dict[str, Any],
    timing: pd.DataFrame,
    evaluation: Any,
    measures: dict[str, float],
) -> dict[str, Any]:
    return {
        "variant": variant,
        "seed": seed,
        "data": label,
        "val_accuracy": evaluation["val"]["accuracy"],
        "test_accuracy": evaluation["test"]["accuracy"],
        "val_loss": evaluation["val"]["loss"],
        "test_loss": evaluation["test"]["loss"],
        "train_accuracy": evaluation["train"]["accuracy"],
        "gap": evaluation["train"]["accuracy"] - evaluation["val"]["accuracy"],
        "best_epoch": facts["best_epoch"],
        "epochs": facts["epochs"],
        "diverged_epoch": facts["diverged_epoch"],
        "first_batch_loss": facts["first_batch_loss"],
        "parameters": facts["parameters"],
        "multiply_adds": facts["multiply_adds"],
        "activation_bytes": facts["activation_bytes"],
        **measures,
        "seconds": timing["seconds"].sum(),
        "images_per_second": timing["images_per_second"].median(),
        "concurrent_seeds": timing["concurrent_seeds"].median(),
        "device": facts["device"],
        "precision": facts["precision"],
        "num_threads": facts["num_threads"],
        **facts["versions"],
    }


def _with_settings(runs: pd.DataFrame, variants: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """`runs` and the settings in which `variants` differ; a run's own record of a setting (its device) is kept."""
    settings = pd.json_normalize(list(variants.values())).set_index(pd.Index(variants, name="variant"))
    varying = [name for name in settings if name not in runs and settings[name].astype(str).nunique(dropna=False) > 1]
    return runs.join(settings[varying], on="variant")


def read_evaluations(path: Path, seeds: list[int]) -> dict[int, Any]:
    """Seed -> what the evaluation wrote about it. Raises InvalidInput where one of `seeds` is missing."""
    evaluations = {entry["seed"]: entry for entry in read_required(path)["seeds"]}
    for seed in seeds:
        if seed not in evaluations:
            raise InvalidInput(
                f"{path}: no seed {seed}; it has {', '.join(map(str, evaluations))}; dvc repro evaluates it"
            )
    return evaluations


def read_required(path: Path, read: Callable[[Path], Any] = read_json) -> Any:
    """What `read` returns for `path`. Raises InvalidInput where the file is missing."""
    try:
        return read(path)
    except FileNotFoundError:
        raise _missing_file(path) from None


def _read_series(folder: Path, names: dict[str, str], diverged: bool) -> pd.DataFrame:
    """dvclive's series below `folder` as columns, by epoch. Non-finite values have no row; with no others, no file."""
    series = {}
    for column, name in names.items():
        path = folder / "plots/metrics" / f"{name}.tsv"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()[1:]
        except FileNotFoundError:
            if not diverged:
                raise _missing_file(path) from None
            lines = []
        steps = [line.split("\t") for line in lines]
        series[column] = pd.Series({int(step): float(value) for step, value in steps}, dtype=float)
    return pd.DataFrame(series).rename_axis("epoch")


def _missing_file(path: Path) -> InvalidInput:
    return InvalidInput(f"{path}: no such file, though the study names this variant and seed; dvc repro makes it")
