"""The study's twelve statements, what was compared to test each, and what these runs say."""

from typing import NamedTuple

from ablation.analysis.comparisons import Comparison, Comparisons
from ablation.reporting.comparison_tables import effect_text, seeds_text, title_text

RULE = (
    "A statement is supported where every comparison that tests it is, contradicted where one of them is, and "
    "undecided otherwise; not run where none of its variants is in the study; not measured yet without a comparison."
)
NOT_DECLARED = "it is not in aggregate.comparisons of params.yaml"


class Statement(NamedTuple):
    """`comparisons`: names in params.yaml. `missing`: what these comparisons do not cover; may be empty."""

    text: str
    comparisons: tuple[str, ...]
    missing: str


class Finding(NamedTuple):
    """A statement with its answer and the evidence, a line for each comparison."""

    number: int  # as in the study, from 1
    text: str
    answer: str  # supported, contradicted, undecided, not run, not measured yet
    evidence: list[str]
    missing: str


STATEMENTS = [
    Statement(
        "Batch norm's output has mean approximately zero, not exactly.",
        (),
        "the mean of batch norm's outputs, before and after the affine part",
    ),
    Statement(
        "A framework's built-in optimisers (Adam) need no hand-written backward pass.",
        (),
        "that Adam trains is in the table above (variant adam); no comparison is declared",
    ),
    Statement(
        "Augmentation helps generalisation, but can make a small model underfit.",
        ("augmentation", "gap_augmentation"),
        "underfitting of a small model",
    ),
    Statement(
        "Without BN and dropout a CNN does not necessarily converge slowly.",
        (),
        "epochs to reach given accuracies",
    ),
    Statement(
        "Dropout and L2 together can underfit; used together, one must be weakened.",
        ("dropout_l2",),
        "training accuracy of dropout with strong and with weak L2",
    ),
    Statement("L1 gives sparser weights than L2.", (), "the share of weights near zero"),
    Statement(
        "Leaky ReLU avoids dead neurons but can make training less stable.",
        (),
        "the share of dead units, and the variance of late losses",
    ),
    Statement(
        "Depthwise-separable convolution cuts parameters and computation, and speeds up a ResNet.",
        (),
        "speed of both nets side by side on one device; their parameters and multiply-adds are in the table above",
    ),
    Statement(
        "SqueezeNet downsamples late: its large activation maps are kept through the early layers.",
        (),
        "memory of the activations; multiply-adds of both nets are in the table above",
    ),
    Statement(
        "Skip connections let the gradient flow.",
        ("skip_connections",),
        "gradient norms by depth; tested is the accuracy of ResNet-20 against the plain net of 20 layers",
    ),
    Statement("Too high a learning rate (1.0) overshoots and ends at chance level.", ("lr_1e-0",), ""),
    Statement(
        "Too strong L2 underfits; too weak allows overfitting.",
        ("l2_too_strong", "gap_l2_none"),
        "training accuracy under strong L2",
    ),
]


def findings(compared: Comparisons) -> list[Finding]:
    """Every statement with its answer, in the study's order."""
    rows = {row.name: row for row in compared.rows}
    return [
        Finding(number, text, *_answer(names, rows, compared.not_run), missing)
        for number, (text, names, missing) in enumerate(STATEMENTS, start=1)
    ]


def _answer(names: tuple[str, ...], rows: dict[str, Comparison], not_run: dict[str, str]) -> tuple[str, list[str]]:
    evidence = [_evidence(rows[name]) for name in names if name in rows]
    evidence += [f"{name} was not run: {not_run.get(name, NOT_DECLARED)}" for name in names if name not in rows]
    verdicts = {rows[name].verdict for name in names if name in rows}
    if not names:
        return "not measured yet", []
    if not verdicts:
        return "not run", evidence
    if "contradicted" in verdicts:
        return "contradicted", evidence
    if verdicts == {"supported"} and all(name in rows for name in names):
        return "supported", evidence
    return "undecided", evidence


def _evidence(row: Comparison) -> str:
    return f"{title_text(row)}: {effect_text(row)}, n = {seeds_text(row)}: {row.answer}"
