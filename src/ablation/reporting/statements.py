"""The study's twelve statements, what was compared to test each, and what these runs say."""

from typing import NamedTuple

import pandas as pd

from ablation.analysis.comparisons import Comparison, Comparisons
from ablation.reporting.comparison_tables import effect_text, seeds_text, title_text

RULE = (
    "A statement is supported where every comparison that tests it is, contradicted where one of them is, undecided "
    "otherwise; not comparable where no other was run, and not run where none was. Holm's correction is within the "
    "families of comparisons, not over those of a statement. All verdicts are about these networks and settings; "
    "others may behave differently."
)
NOT_DECLARED = "it is not in aggregate.comparisons of params.yaml"


class Statement(NamedTuple):
    """`comparisons`: names in params.yaml. `tested`: how they test it, and what of it they leave out."""

    text: str
    comparisons: tuple[str, ...]
    tested: str


class Finding(NamedTuple):
    """A statement with its answer and the evidence, a line for each comparison."""

    number: int  # as in the study, from 1
    statement: str
    answer: str  # a verdict, or not run
    tested: str
    evidence: list[str]


STATEMENTS = [
    Statement(
        "Batch norm's output has mean approximately zero, not exactly.",
        ("batch_norm_mean_normalized", "batch_norm_mean"),
        "the absolute mean of each channel's output over a batch, averaged over the channels of SimpleNN + BN: before "
        "the affine part zero but for rounding (at most 0.001), after it approximately zero (at most 0.1, a bound of "
        "this project, for normalised values of standard deviation 1); that it is not exactly zero is not tested",
    ),
    Statement(
        "A framework's built-in optimisers (Adam) need no hand-written backward pass.",
        ("adam",),
        "whether PyTorch's Adam reaches SGD's accuracy within 5 points; a test checks that no backward pass "
        "is written by hand in this code, except in the kernels that make layers faster",
    ),
    Statement(
        "Augmentation helps generalisation, but can make a small model underfit.",
        ("augmentation", "gap_augmentation", "augmentation_underfits"),
        "higher validation accuracy and a smaller gap; underfitting as a lower accuracy on the training images, which "
        "are not augmented for it",
    ),
    Statement(
        "Without BN and dropout a CNN does not necessarily converge slowly.",
        ("convergence_without_bn", "convergence_without_bn_60"),
        "epochs to 95 % of its own best validation accuracy, and to an accuracy of 60 %: at most 3 more without BN "
        "than with it, neither with dropout; not run where a seed never gets there",
    ),
    Statement(
        "Dropout and L2 together can underfit; used together, one must be weakened.",
        ("dropout_l2", "dropout_l2_underfits"),
        "dropout with L2 0.01 against dropout with L2 0.0001, the weakened one, on validation and training images; "
        "whether L2 0.01 would underfit alone, and weaker dropout instead, are not tested",
    ),
    Statement(
        "L1 gives sparser weights than L2.",
        ("l1_sparsity",),
        "the share of weights below a thousandth of their layer's largest, L1 0.0001 against L2 0.0001",
    ),
    Statement(
        "Leaky ReLU avoids dead neurons but can make training less stable.",
        ("leaky_relu_dead_units", "leaky_relu_instability"),
        "the share of hidden units that pass no gradient on any validation image, which are ReLUs that are never "
        "above zero (a leaky ReLU always passes 1 %, so this asks whether a plain one has dead units), and the "
        "standard deviation of the batches' losses in the last quarter of the epochs",
    ),
    Statement(
        "Depthwise-separable convolution cuts parameters and computation, and speeds up a ResNet.",
        ("dws_parameters", "dws_multiply_adds", "dws_speed"),
        "ResNet-20 with depthwise-separable against standard convolutions; speed is that of training on this device, "
        "and its interval is over seeds trained side by side: it does not cover changes of the machine's speed",
    ),
    Statement(
        "SqueezeNet downsamples late: its large activation maps are kept through the early layers.",
        ("squeezenet_activations", "squeezenet_multiply_adds"),
        "bytes of activations kept for the backward pass, and multiply-adds, against the same layers with early "
        "downsampling",
    ),
    Statement(
        "Skip connections let the gradient flow.",
        ("skip_connections", "gradient_imbalance_start", "gradient_imbalance"),
        "ResNet-20 against the plain net of 20 layers: higher validation accuracy; gradients of the first and the last "
        "convolution that differ by fewer powers of ten, at initialisation and during training, since vanishing and "
        "exploding gradients are both far from balanced",
    ),
    Statement(
        "Too high a learning rate (1.0) overshoots and ends at chance level.",
        ("lr_1e-0_chance",),
        "validation accuracy of at most 12 % in the best epoch, where a guess among ten classes has 10 %",
    ),
    Statement(
        "Too strong L2 underfits; too weak allows overfitting.",
        ("l2_too_strong", "l2_too_strong_underfits", "gap_l2_none"),
        "L2 0.01 against 0.0001 on validation and training images; L2 0 against 0.0001 by the gap between them",
    ),
]


def findings(compared: Comparisons) -> list[Finding]:
    """Every statement with its answer, in the study's order."""
    rows = {row.name: row for row in compared.rows}
    return [
        Finding(number, text, _answer(names, rows), tested, _evidence(names, rows, compared.not_run))
        for number, (text, names, tested) in enumerate(STATEMENTS, start=1)
    ]


def table(compared: Comparisons) -> pd.DataFrame:
    """results/statements.csv: one row per statement, its evidence joined by semicolons, which no line contains."""
    rows = [finding._asdict() | {"evidence": "; ".join(finding.evidence)} for finding in findings(compared)]
    return pd.DataFrame(rows)


def _answer(names: tuple[str, ...], rows: dict[str, Comparison]) -> str:
    verdicts = {rows[name].verdict for name in names if name in rows}
    if not verdicts:
        return "not run"
    if "contradicted" in verdicts:
        return "contradicted"
    if verdicts == {"not comparable"}:
        return "not comparable"
    return "supported" if verdicts == {"supported"} and all(name in rows for name in names) else "undecided"


def _evidence(names: tuple[str, ...], rows: dict[str, Comparison], not_run: dict[str, str]) -> list[str]:
    found = [
        f"{title_text(row)}: {effect_text(row)}, n = {seeds_text(row)}: {row.answer}"
        + (f", {row.note}" if row.note else "")
        for row in (rows[name] for name in names if name in rows)
    ]
    found += [f"{name} was not run: {not_run.get(name, NOT_DECLARED)}" for name in names if name not in rows]
    return [line.replace("; ", ", ") for line in found]
