"""One run's measures behind the study's statements, from what training and evaluation recorded."""

import math
from typing import Any

import numpy as np
import pandas as pd

LEVELS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of validation accuracy
CONVERGED = 0.95  # of a run's own best validation accuracy
LEARNED = 0.2  # validation accuracy that a run must exceed to count as converging: twice chance level
LATE = 0.25  # fraction of the epochs, at their end


def of_curve(curve: pd.DataFrame, diverged: bool) -> dict[str, float]:
    """Measures from `curve`: val_accuracy and batch_loss_sd by epoch (from 1).

    plateau: mean accuracy over the last quarter of the epochs. epochs_to_converge: to 95 % of the run's own best
    accuracy, if that exceeds twice chance level. instability: the standard deviation of the batch losses within an
    epoch, averaged over the last quarter of the epochs. All three are NaN for a run that diverged. epochs_to_60
    and the like: to that accuracy, in percent; NaN where it was never reached.
    """
    accuracy = curve["val_accuracy"]
    late = curve.iloc[-math.ceil(LATE * len(curve)) :]
    learned = not diverged and accuracy.max() > LEARNED
    return {
        "plateau": math.nan if diverged else float(late["val_accuracy"].mean()),
        "instability": math.nan if diverged else float(late["batch_loss_sd"].mean(skipna=False)),
        "epochs_to_converge": _first(accuracy >= CONVERGED * accuracy.max()) if learned else math.nan,
        **{f"epochs_to_{100 * level:.0f}": _first(accuracy >= level) for level in LEVELS},
    }


def of_gradients(gradients: dict[str, Any], diverged: bool) -> dict[str, float]:
    """Gradient imbalance from gradients.json: |log10(first / last convolution's norm of the weight gradient)|.

    0 where the norms are equal; it grows as the gradient vanishes or explodes on its way back to the first convolution.
    gradient_imbalance_start: at initialisation. gradient_imbalance: at the start of each later epoch, mean over the
    second half of them, NaN for a run that diverged. The fully connected layers behind the last convolution are left
    out, since their shapes differ.
    """
    convolutions = [i for i, name in enumerate(gradients["layers"]) if not name.startswith("fc")]
    norms = np.array(gradients["epochs"], dtype=np.float64)[:, convolutions]  # null becomes NaN
    with np.errstate(divide="ignore", invalid="ignore"):
        imbalance = np.abs(np.log10(norms[:, 0] / norms[:, -1]))
    imbalance[~np.isfinite(imbalance)] = np.nan
    second_half = imbalance[second_half_start(len(imbalance)) :]
    return {
        "gradient_imbalance_start": float(imbalance[0]),
        "gradient_imbalance": math.nan if diverged or not len(second_half) else float(second_half.mean()),
    }


def of_network(inside: dict[str, Any]) -> dict[str, float]:
    """Measures from one seed's entry of diagnostics.json; NaN where it has none: no batch norm, non-finite weights."""
    means = inside["batch_norm"] or {"normalized": None, "output": None}
    values = {
        "dead_units": inside["dead_units"],
        "sparsity": inside["sparsity"],
        "batch_norm_mean_normalized": means["normalized"],
        "batch_norm_mean": means["output"],
    }
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def second_half_start(num_epochs: int) -> int:
    """Index, from 0, of the first epoch in the second half of those after the first."""
    return (num_epochs + 1) // 2


def _first(reached: "pd.Series[bool]") -> float:
    return float(min(reached.index[reached], default=math.nan))
