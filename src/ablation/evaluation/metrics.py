"""Classification metrics from predictions."""

import math
from typing import Any

import pandas as pd
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score
from torch import Tensor


def classification_metrics(labels: Tensor, logits: Tensor, classes: list[str]) -> dict[str, Any]:
    """Mean cross-entropy, accuracy, and accuracy on each class (its recall); accuracies are fractions.

    labels: int64 [N]; logits: float [N, number of classes]. A loss that is not finite, and the accuracy of a class
    without images, are None.
    """
    predictions = logits.argmax(1)
    loss = F.cross_entropy(logits.double(), labels).item()
    recalls = recall_score(labels, predictions, labels=range(len(classes)), average=None, zero_division=math.nan)
    return {
        "loss": _finite(loss),
        "accuracy": float(accuracy_score(labels, predictions)),
        "per_class_accuracy": {name: _finite(recall) for name, recall in zip(classes, recalls, strict=True)},
    }


def confusion_table(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """The confusion matrix in long form: a count for every pair of class names, in the order of `classes`."""
    counts = confusion_matrix(predictions["label"], predictions["prediction"], labels=range(len(classes)))
    pairs = pd.MultiIndex.from_product([classes, classes], names=["label", "prediction"])
    return pd.DataFrame({"count": counts.ravel()}, index=pairs).reset_index()


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
