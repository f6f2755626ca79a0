"""Every seed of one variant: from its weights to metrics, diagnostics and predictions."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch

from ablation.common.files import write_json, write_text
from ablation.data.splits import Split, Statistics
from ablation.evaluation.diagnostics import ActiveUnits, diagnose
from ablation.evaluation.metrics import classification_metrics, confusion_table
from ablation.evaluation.mistakes import confident_mistakes
from ablation.evaluation.params import EvaluateParams
from ablation.evaluation.predictions import predict, predictions_table
from ablation.models.device import choose_device, describe, enough_memory
from ablation.models.weights import load_weights


def evaluate_variant(
    params: EvaluateParams,
    weights: Mapping[int, Path],
    splits: Mapping[str, Split],
    statistics: Statistics,
    output: Path,
) -> None:
    """Evaluate the networks on `splits` (train, val and test) and write the results into the folder `output`.

    weights: seed -> file. Prints a line per seed. Raises InvalidInput where the device is missing or out of memory.
    """
    device = choose_device(params.device)
    torch.set_num_threads(2)  # everywhere, since the last bits of a sum depend on the number of threads
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False

    metrics, diagnostics, tables = [], [], []
    with enough_memory(params.batch_size, "evaluate.batch_size"):
        for seed, path in weights.items():
            model = load_weights(path).to(device).to(memory_format=torch.channels_last)
            with ActiveUnits(model) as units:
                logits = {"val": predict(model, splits["val"].images, statistics, params.batch_size)}
            for name in ("train", "test"):
                logits[name] = predict(model, splits[name].images, statistics, params.batch_size)
            tables += [predictions_table(seed, name, splits[name].labels, logits[name]) for name in ("val", "test")]
            results = {
                name: classification_metrics(split.labels, logits[name], statistics.classes)
                for name, split in splits.items()
            }
            metrics.append({"seed": seed, **results})
            diagnostics.append(
                {"seed": seed, **diagnose(model, units, logits["val"], splits["val"].images, statistics)}
            )
            accuracies = ", ".join(f"{name} {figures['accuracy']:.2%}" for name, figures in results.items())
            print(f"{output.parent.name} seed {seed}: accuracy {accuracies}")

    predictions = pd.concat(tables)
    on_test = predictions[predictions["split"] == "test"]
    confusion = confusion_table(on_test, statistics.classes)
    num_images = {name: len(split.labels) for name, split in splits.items()}
    place = {"device": describe(device), "torch": torch.__version__}
    write_json(output / "metrics.json", {"num_images": num_images, "evaluated_on": place, "seeds": metrics})
    write_json(output / "diagnostics.json", {"seeds": diagnostics})
    write_json(output / "mistakes.json", confident_mistakes(on_test, splits["test"].images, statistics.classes))
    write_text(output / "predictions.csv", predictions.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    write_text(output / "confusion.csv", confusion.to_csv(index=False, lineterminator="\n"))
