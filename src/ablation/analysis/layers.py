"""Inside the networks: the distribution of weight magnitudes, and the norm of the weight gradient by layer."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ablation.analysis.diagnostics import second_half_start
from ablation.analysis.params import ReportParams
from ablation.analysis.runs import read_evaluations, read_required

WEIGHTS = ["variant", "seed", "low", "high", "share"]
GRADIENTS = ["variant", "seed", "depth", "layer", "start", "later"]


class Layers(NamedTuple):
    """Tidy tables with the columns above; a network with non-finite weights has no rows in `weights`.

    weights: a histogram: the share of a network's weights whose log10(magnitude / largest of the layer) is between low
    and high; the first bin also holds smaller ones and zeros. gradients: the norm of a layer's weight gradient, the
    first layer at depth 1; start: at initialisation; later: at the start of each later epoch, mean over the second half
    of them. NaN: not finite, or no such epoch.
    """

    weights: pd.DataFrame
    gradients: pd.DataFrame


def read_layers(params: ReportParams, folder: Path) -> Layers:
    """The tables of every variant in the study. Raises InvalidInput where a file or a seed is missing."""
    weights, gradients = [], []
    for variant in params.variants:
        seeds = params.seeds[variant]
        inside = read_evaluations(folder / variant / "evaluation/diagnostics.json", seeds)
        for seed in seeds:
            run = {"variant": variant, "seed": seed}
            weights += [run | row for row in _shares(inside[seed]["weights"])]
            recorded = read_required(folder / variant / f"metrics/seed-{seed}/gradients.json")
            gradients += [run | row for row in _norms(recorded)]
    return Layers(pd.DataFrame(weights, columns=WEIGHTS), pd.DataFrame(gradients, columns=GRADIENTS))


def _shares(histogram: dict[str, list[float]] | None) -> list[dict[str, float]]:
    if histogram is None:
        return []
    edges, counts = histogram["log10_edges"], histogram["counts"]
    return [
        {"low": low, "high": high, "share": count / sum(counts)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _norms(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """The gradient at the start of epoch 1 is that at initialisation."""
    norms = pd.DataFrame(recorded["epochs"], columns=recorded["layers"], dtype=float)
    later = norms.iloc[second_half_start(len(norms)) :].mean(skipna=False)
    return [
        {"depth": depth, "layer": layer, "start": norms[layer].iloc[0], "later": later[layer]}
        for depth, layer in enumerate(recorded["layers"], start=1)
    ]
