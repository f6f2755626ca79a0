"""Stage evaluate: a variant's weights -> metrics, predictions, confusion. Nothing else reads the test split."""

from pathlib import Path

from ablation.common.errors import run


def main(variant: str) -> None:
    from ablation.data.splits import read_split, read_statistics
    from ablation.evaluation.evaluate import evaluate_variant
    from ablation.evaluation.params import EvaluateParams
    from ablation.models.weights import find_weights

    folder, data = Path("runs", variant), Path("data/splits")
    weights = find_weights(folder / "weights")
    params = EvaluateParams.read("configs/evaluate.yaml")
    statistics = read_statistics(data / "statistics.json")
    splits = {name: read_split(data / f"{name}.safetensors") for name in ("train", "val", "test")}
    evaluate_variant(params, weights, splits, statistics, folder / "evaluation")


if __name__ == "__main__":
    run(main, "VARIANT")
