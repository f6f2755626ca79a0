"""Stage evaluate: a variant's weights -> metrics, predictions, confusion. Nothing else reads the split test."""

import sys
from pathlib import Path

from ablation.common.errors import InvalidInput, run


def main() -> None:
    from ablation.data.splits import read_split, read_statistics
    from ablation.evaluation.evaluate import evaluate_variant
    from ablation.evaluation.params import EvaluateParams
    from ablation.models.weights import find_weights

    if len(sys.argv) != 2:
        raise InvalidInput("usage: python stages/evaluate.py VARIANT")
    folder, data = Path("runs", sys.argv[1]), Path("data/splits")
    weights = find_weights(folder / "weights")
    params = EvaluateParams.read("configs/evaluate.yaml")
    statistics = read_statistics(data / "statistics.json")
    splits = {name: read_split(data / f"{name}.safetensors") for name in ("train", "val", "test")}
    evaluate_variant(params, weights, splits, statistics, folder / "evaluation")


if __name__ == "__main__":
    run(main)
