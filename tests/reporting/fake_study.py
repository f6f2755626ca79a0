"""A small study as training and evaluation leave it on disk, with figures that can be worked out by hand."""

import base64
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from ablation.analysis.params import ReportParams

TRAIN = {
    "model": {"name": "simple_nn", "batch_norm": False},
    "augmentation": "none",
    "lr": 0.01,
    "weight_decay": 0.0001,
    "epochs": 3,
    "device": "auto",
    "precision": "tf32",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "simple_nn": {},
    "lr_1e-0": {"lr": 1.0},
    "l2_0": {"weight_decay": 0.0},
    "resnet20": {"model": {"name": "resnet20", "shortcut": "projection"}},
}
SWEEPS = {
    "learning_rate": {"title": "Learning rate", "setting": "lr", "variants": ["lr_1e-3", "simple_nn", "lr_1e-0"]},
    "l2": {"title": "L2", "setting": "weight_decay", "variants": ["l2_0", "simple_nn", "l2_1e-2"]},
}
NO_L2 = {"weight_decay": [0.0, 0.0001]}
COMPARISONS = {  # with the answer that the accuracies below give
    "skip_connections": (
        *("resnet20", "simple_nn", "val_accuracy"),
        {"name": "higher", "settings": {"model": [{"name": "resnet20"}, {"name": "simple_nn"}]}},
        "supported",
    ),
    "l2_too_strong": ("l2_0", "simple_nn", "val_accuracy", {"name": "lower", "settings": NO_L2}, "contradicted"),
    "resnet20": (
        *("resnet20", None, "val_accuracy"),
        {"name": "number", "value": 0.907, "tolerance": 0.01, "settings": {"epochs": 3}},
        "undecided (needs about 19 seeds)",
    ),
    "lr_1e-0": (
        *("lr_1e-0", None, "val_accuracy"),
        {"name": "number", "value": 0.1028, "tolerance": 0.05, "settings": {"epochs": 3}},
        "supported",
    ),
    "lr_1e-0_chance": (
        "lr_1e-0",
        None,
        "val_accuracy",
        {"name": "at_most", "value": 0.15, "settings": {}},
        "supported",
    ),
    "plateau": (
        *("simple_nn", None, "plateau"),
        {"name": "number", "value": 0.6, "tolerance": 0.03, "settings": {"epochs": 30}},
        "not comparable",
    ),
    "gap_l2_none": (
        *("l2_0", "simple_nn", "gap", {"name": "higher", "settings": NO_L2}),
        "undecided (needs more than 1,000 seeds)",
    ),
    "first_batch_loss": (
        *("simple_nn", None, "first_batch_loss"),
        {"name": "number", "value": 2.2998, "tolerance": 0.01, "settings": {}},
        "undecided (all seeds agree)",
    ),
    "swish": ("simple_nn_bn_swish", "simple_nn", "val_accuracy", {"name": "higher", "settings": {}}, "not run"),
}
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PREDICTIONS = "seed,split,index,label,prediction,confidence"
NUM_IMAGES = 100  # of train, val and test each, ten per class
# variant -> seed -> val accuracy of each epoch
VAL: dict[str, dict[int, list[float]]] = {
    "simple_nn": {0: [0.5, 0.60, 0.55], 1: [0.5, 0.62, 0.61], 2: [0.5, 0.61, 0.64]},
    "lr_1e-0": {0: [0.1, 0.1, 0.1], 1: [0.1, 0.1], 2: [0.1]},
    "l2_0": {0: [0.5, 0.6, 0.7], 1: [0.5, 0.6, 0.7], 2: [0.5, 0.6, 0.7]},
    "resnet20": {0: [0.6, 0.7, 0.90], 1: [0.6, 0.7, 0.91], 2: [0.6, 0.7, 0.92]},
}
TEST = {
    "simple_nn": {0: 0.58, 1: 0.60, 2: 0.62},
    "lr_1e-0": {0: 0.1, 1: 0.1, 2: 0.1},
    "l2_0": {0: 0.71, 1: 0.70, 2: 0.69},
    "resnet20": {0: 0.90, 1: 0.90, 2: 0.93},
}
DIVERGED = {("lr_1e-0", 1): 2, ("lr_1e-0", 2): 1}  # (variant, seed) -> epoch
PARAMETERS = {"resnet20": 272_474}
LAYERS = ["conv1", "conv2", "fc"]  # their gradients at the start of epoch k have the norms 1/k, 2/k and 3/k
EDGES = [i / 5 for i in range(-30, 1)]


def write_study(root: Path, seeds: tuple[int, ...] = (0, 1, 2), label: str = "digits") -> ReportParams:
    """configs/aggregate.yaml and runs/ of the study above, below `root`."""
    write_settings(root, seeds, label)
    for variant in VARIANTS:
        for seed in seeds:
            write_run(
                root / "runs" / variant, seed, VAL[variant][seed], TEST[variant][seed], DIVERGED.get((variant, seed))
            )
    return ReportParams.read(root / "configs/aggregate.yaml")


def write_settings(root: Path, seeds: tuple[int, ...], label: str) -> None:
    settings = {
        "label": label,
        "seeds": {variant: list(seeds) for variant in VARIANTS},
        "variants": {name: TRAIN | overrides for name, overrides in VARIANTS.items()},
        "sweeps": SWEEPS,
        "reported": {"label": label, "train_size": NUM_IMAGES, "val_size": NUM_IMAGES, "settings": {}},
        "comparisons": {
            name: {"title": f"Title of {name}", "family": name, "metric": metric}
            | {"variant": variant, "baseline": baseline, "claim": claim}
            for name, (variant, baseline, metric, claim, _) in COMPARISONS.items()
        },
    }
    (root / "configs").mkdir(parents=True, exist_ok=True)
    (root / "configs/aggregate.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def write_run(folder: Path, seed: int, val: list[float], test: float, diverged_epoch: int | None = None) -> None:
    """One run with the accuracies `val` by epoch; training accuracy is 0.02 above them, that of the best weights 0.03.

    An epoch lasts 2 s at 1,000 + 100 x epoch images/s, beside two other seeds except for the last. A run that diverges
    at epoch k has no loss at epoch k.
    """
    epochs = range(1, len(val) + 1)
    best = max(epochs, key=lambda epoch: val[epoch - 1])
    finite = [epoch for epoch in epochs if epoch != diverged_epoch]
    metrics, timing = folder / f"metrics/seed-{seed}", folder / f"timing/seed-{seed}"
    _write_series(metrics, "train/loss", {epoch: 2.0 / epoch for epoch in finite})
    _write_series(metrics, "val/loss", {epoch: 2.1 / epoch for epoch in finite})
    _write_series(metrics, "train/accuracy", {epoch: val[epoch - 1] + 0.02 for epoch in epochs})
    _write_series(metrics, "val/accuracy", {epoch: val[epoch - 1] for epoch in epochs})
    _write_series(metrics, "train/batch_loss_sd", {epoch: 0.1 * epoch for epoch in finite})
    _write_series(metrics, "lr", dict.fromkeys(epochs, 0.01))
    _write_series(timing, "seconds", dict.fromkeys(epochs, 2.0))
    _write_series(timing, "images_per_second", {epoch: 1000.0 + 100 * epoch for epoch in epochs})
    _write_series(timing, "concurrent_seeds", {epoch: 1.0 if epoch == len(val) else 3.0 for epoch in epochs})
    run = {
        "variant": folder.name,
        "seed": seed,
        "parameters": PARAMETERS.get(folder.name, 82_030),
        "multiply_adds": 1_120_000,
        "activation_bytes": 73_136,
        "first_batch_loss": 2.3026,
        "epochs": len(epochs),
        "best_epoch": best,
        "best_val_accuracy": val[best - 1],
        "diverged_epoch": diverged_epoch,
        "device": "cpu",
        "precision": "fp32",
        "num_threads": 1,
        "versions": {"python": "3.11.9", "torch": "2.14.1"},
    }
    (metrics / "run.json").write_text(json.dumps(run))
    norms = [[(i + 1) / k if k in finite else None for i in range(len(LAYERS))] for k in epochs]
    (metrics / "gradients.json").write_text(json.dumps({"layers": LAYERS, "epochs": norms}))
    loss = None if diverged_epoch == 1 else 2.1 / best
    _write_evaluation(folder / "evaluation", seed, test, val[best - 1], loss)
    _write_diagnostics(folder, seed, diverged_epoch is None)


def _write_diagnostics(folder: Path, seed: int, finite: bool) -> None:
    """Adds a seed to those of a variant: 1 + seed percent of its weights in the first bin, the others in the last."""
    share = (1 + seed) / 100
    entry: dict[str, Any] = {"seed": seed, "sparsity": None, "weights": None, "dead_units": None, "batch_norm": None}
    if finite:
        counts = [round(1000 * share), *[0] * 28, round(1000 * (1 - share))]
        entry |= {"sparsity": share, "weights": {"log10_edges": EDGES, "counts": counts}, "dead_units": 2 * share}
        if folder.name == "resnet20":
            entry["batch_norm"] = {"normalized": 1e-8, "output": 0.25}
    path = folder / "evaluation/diagnostics.json"
    seeds = json.loads(path.read_text())["seeds"] if path.exists() else []
    path.write_text(json.dumps({"seeds": [*seeds, entry]}))


def _write_evaluation(folder: Path, seed: int, test: float, val: float, loss: float | None) -> None:
    """Adds a seed to the evaluation of a variant: each mistake predicts the next class."""
    folder.mkdir(exist_ok=True)
    entry: dict[str, Any] = {"seed": seed}
    predictions = folder / "predictions.csv"
    lines = predictions.read_text().splitlines() if predictions.exists() else [PREDICTIONS]
    entry["train"] = {"loss": loss, "accuracy": val + 0.03}
    for split, accuracy in (("val", val), ("test", test)):
        right = [(37 * i + 11 * seed) % NUM_IMAGES < round(NUM_IMAGES * accuracy) for i in range(NUM_IMAGES)]
        guesses = [(i + (not right[i])) % 10 for i in range(NUM_IMAGES)]
        lines += [f"{seed},{split},{i},{i % 10},{guess},0.5" for i, guess in enumerate(guesses)]
        shares = {name: sum(right[label::10]) / len(right[label::10]) for label, name in enumerate(CLASSES)}
        entry[split] = {"loss": loss, "accuracy": accuracy, "per_class_accuracy": shares}
    predictions.write_text("\n".join(lines) + "\n")
    counts = Counter(tuple(line.split(",")[3:5]) for line in lines if line.split(",")[1] == "test")
    pairs = [f"{CLASSES[a]},{CLASSES[b]},{counts[str(a), str(b)]}" for a in range(10) for b in range(10)]
    (folder / "confusion.csv").write_text("\n".join(["label,prediction,count", *pairs]) + "\n")
    (folder / "mistakes.json").write_text(json.dumps(_mistakes(lines)))
    path = folder / "metrics.json"
    seeds = json.loads(path.read_text())["seeds"] if path.exists() else []
    sizes = dict.fromkeys(["train", "val", "test"], NUM_IMAGES)
    place = {"device": "another cpu", "torch": "2.14.1"}
    path.write_text(json.dumps({"num_images": sizes, "evaluated_on": place, "seeds": [*seeds, entry]}))


def _mistakes(lines: list[str]) -> list[dict[str, Any]]:
    """The first twelve test images of `lines` that were not right, by index, each of one colour."""
    wrong = {}
    for seed, split, index, label, prediction, _ in (line.split(",") for line in lines[1:]):
        if split == "test" and label != prediction:
            wrong.setdefault(int(index), (int(seed), CLASSES[int(label)], CLASSES[int(prediction)]))
    entries = []
    for rank, (index, (seed, label, prediction)) in enumerate(sorted(wrong.items())[:12]):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (2 * index, 120, 255 - 2 * index)).save(buffer, "jpeg")
        jpeg = base64.b64encode(buffer.getvalue()).decode()
        entries.append({"index": index, "seed": seed, "label": label, "prediction": prediction})
        entries[-1] |= {"confidence": 0.99 - 0.01 * rank, "jpeg": jpeg}
    return entries


def _write_series(folder: Path, name: str, values: dict[int, float]) -> None:
    """As dvclive writes it: no file where there is no value."""
    if values:
        path = folder / "plots/metrics" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"step\t{path.stem}\n" + "".join(f"{step}\t{value}\n" for step, value in values.items()))
