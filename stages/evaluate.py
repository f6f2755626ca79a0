"""Stage evaluate: a variant's weights -> metrics, predictions, confusion. Nothing else reads the split test."""

import sys
from pathlib import Path

from ablation.common.errors import InvalidInput, run


def main() -> None:
    import pandas as pd
    import torch

    from ablation.common.files import write_json, write_text
    from ablation.data.splits import read_split, read_statistics
    from ablation.evaluation.diagnostics import ActiveUnits, diagnose
    from ablation.evaluation.metrics import classification_metrics, confusion_table
    from ablation.evaluation.mistakes import confident_mistakes
    from ablation.evaluation.params import EvaluateParams
    from ablation.evaluation.predictions import predict, predictions_table
    from ablation.models.device import choose_device
    from ablation.models.weights import find_weights, load_weights

    if len(sys.argv) != 2:
        raise InvalidInput("usage: python stages/evaluate.py VARIANT")
    variant = sys.argv[1]
    weights = find_weights(Path("runs", variant, "weights"))
    params = EvaluateParams.read("configs/evaluate.yaml")
    device = choose_device(params.device)
    torch.set_num_threads(2)  # everywhere, since the last bits of a sum depend on how many threads share it
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    statistics = read_statistics(Path("data/splits/statistics.json"))
    splits = {name: read_split(Path("data/splits", f"{name}.safetensors")) for name in ("train", "val", "test")}

    metrics, diagnostics, tables = [], [], []
    for seed, path in weights.items():
        model = load_weights(path).to(device).to(memory_format=torch.channels_last)
        with ActiveUnits(model) as units:
            logits = {"val": predict(model, splits["val"].images, statistics, params.batch_size)}
        for name in ("train", "test"):
            logits[name] = predict(model, splits[name].images, statistics, params.batch_size)
        tables += [predictions_table(seed, name, splits[name].labels, logits[name]) for name in ("val", "test")]
        of = {name: classification_metrics(splits[name].labels, logits[name], statistics.classes) for name in splits}
        metrics.append({"seed": seed, **of})
        inside = diagnose(model, units, logits["val"], splits["val"].images, statistics)
        diagnostics.append({"seed": seed, **inside})
        accuracies = ", ".join(f"{name} {figures['accuracy']:.2%}" for name, figures in of.items())
        print(f"{variant} seed {seed}: accuracy {accuracies}")

    predictions = pd.concat(tables)
    on_test = predictions[predictions["split"] == "test"]
    confusion = confusion_table(on_test, statistics.classes)
    mistakes = confident_mistakes(on_test, splits["test"].images, statistics.classes)
    folder = Path("runs", variant, "evaluation")
    num_images = {name: len(split.labels) for name, split in splits.items()}
    write_json(folder / "metrics.json", {"num_images": num_images, "seeds": metrics})
    write_json(folder / "diagnostics.json", {"seeds": diagnostics})
    write_json(folder / "mistakes.json", mistakes)
    write_text(folder / "predictions.csv", predictions.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    write_text(folder / "confusion.csv", confusion.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    run(main)
