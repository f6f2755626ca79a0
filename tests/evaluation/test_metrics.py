import json
import math

import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score

from ablation.evaluation.metrics import classification_metrics, confusion_table

ABC = ["ant", "bee", "cat"]


def logits_for(predictions: list[int], num_classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predictions), num_classes).float()


def test_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    metrics = classification_metrics(labels, logits_for([0, 0, 1, 1, 1, 0], 3), ABC)
    right, wrong = math.log(math.e + 2) - 1, math.log(math.e + 2)  # cross-entropy of logits 1, 0, 0
    assert metrics["loss"] == pytest.approx((4 * right + 2 * wrong) / 6)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["per_class_accuracy"] == pytest.approx({"ant": 2 / 3, "bee": 1.0, "cat": 0.0})


def test_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (500,), generator=generator)
    logits = torch.randn(500, 3, generator=generator)
    metrics = classification_metrics(labels, logits, ABC)
    scores = logits.double().softmax(1)
    assert metrics["loss"] == pytest.approx(log_loss(labels, scores))
    assert metrics["accuracy"] == pytest.approx(top_k_accuracy_score(labels, scores, k=1))
    mean = sum(metrics["per_class_accuracy"].values()) / 3
    assert mean == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_run_has_an_accuracy_but_no_loss(value: float) -> None:
    labels = torch.tensor([0, 0, 1, 2])
    metrics = classification_metrics(labels, torch.full((4, 3), value), ABC)
    assert metrics == {"loss": None, "accuracy": 0.5, "per_class_accuracy": {"ant": 1.0, "bee": 0.0, "cat": 0.0}}
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_a_class_without_images_has_no_accuracy() -> None:
    metrics = classification_metrics(torch.tensor([0, 2]), logits_for([0, 1], 3), ABC)
    assert metrics["per_class_accuracy"] == {"ant": 1.0, "bee": None, "cat": 0.0}


def test_confusion_by_hand() -> None:
    predictions = pd.DataFrame({"label": [0, 0, 0, 1, 2, 2], "prediction": [0, 2, 2, 1, 0, 2]})
    table = confusion_table(predictions, ABC)
    assert table.columns.tolist() == ["label", "prediction", "count"]
    assert table.values.tolist() == [
        ["ant", "ant", 1], ["ant", "bee", 0], ["ant", "cat", 2],
        ["bee", "ant", 0], ["bee", "bee", 1], ["bee", "cat", 0],
        ["cat", "ant", 1], ["cat", "bee", 0], ["cat", "cat", 1],
    ]  # fmt: skip
