"""A trained network's predictions on a split."""

import pandas as pd
import torch
from torch import Tensor, nn

from ablation.data.splits import Normalization, Statistics, channels_last


def predict(model: nn.Module, images: Tensor, statistics: Statistics, batch_size: int) -> Tensor:
    """Logits float32 [N, 10], on the CPU. images: uint8 [N, 3, 32, 32], normalised on the model's device."""
    device = next(model.parameters()).device
    normalization = Normalization.of(statistics, images.shape[-1]).to(device)
    with torch.inference_mode():
        logits = [model(normalization(channels_last(batch.to(device)))) for batch in images.split(batch_size)]
    return torch.cat(logits).float().cpu()


def predictions_table(seed: int, split: str, labels: Tensor, logits: Tensor) -> pd.DataFrame:
    """One row per image, classes as numbers; confidence is the softmax probability of the prediction.

    Non-finite weights (of a run that diverged in its first epoch) give NaN logits: the prediction is then the first
    class whose logit is NaN, and its confidence is NaN as well.
    """
    predictions = logits.argmax(1)  # takes NaN for the largest
    confidence = logits.double().softmax(1).gather(1, predictions[:, None])[:, 0]
    return pd.DataFrame(
        {
            "seed": seed,
            "split": split,
            "index": range(len(labels)),
            "label": labels.numpy(),
            "prediction": predictions.numpy(),
            "confidence": confidence.numpy(),
        }
    )
