"""The study's answer in a paragraph, and results/report.md, the page condensed to a comment on a pull request."""

from collections.abc import Mapping

import pandas as pd

from ablation.analysis.comparisons import Comparisons
from ablation.analysis.params import ReportParams
from ablation.reporting import statements
from ablation.reporting.comparison_tables import (
    cells,
    claim_text,
    claim_texts,
    effect_rows,
    effect_text,
    title_text,
)
from ablation.reporting.style import TESTED, VERDICTS
from ablation.reporting.tables import accuracy_rows, accuracy_text, best_first, data_name, text_table, warning
from ablation.reporting.words import counted, max_seeds, seeds_per_variant


def sentences(
    params: ReportParams, runs: pd.DataFrame, compared: Comparisons, num_images: Mapping[str, int]
) -> list[str]:
    """The answer apart from the effects of each change: the best variant, and how the study's claims fared."""
    best = best_first(runs)[0]
    accuracy = accuracy_text(runs[runs["variant"] == best]["test_accuracy"], num_images["test"])
    interval = " (mean and 95 % interval)" if "±" in accuracy else ""
    said = [
        f"Of {counted(runs['variant'].nunique(), 'variant')} with {seeds_per_variant(runs)} each, trained on "
        f"{num_images['train']:,} images of {data_name(params.label)}, {best} has the best "
        f"validation accuracy; it recognises {accuracy} % of the test images{interval}."
    ]
    by_verdict = {verdict: [row for row in compared.rows if row.verdict == verdict] for verdict in VERDICTS}
    tested = len(compared.rows) - len(by_verdict["not comparable"])
    counts = ", ".join(f"{len(by_verdict[verdict])} {verdict}" for verdict in TESTED)
    others = {
        "not comparable": len(by_verdict["not comparable"]),
        "not run": len(compared.not_run),
    }
    left_out = "".join(f"; {words}: {number}" for words, number in others.items() if number)
    said.append(f"{counted(tested, 'claim')} tested: {counts}{left_out}.")
    if by_verdict["contradicted"]:
        claims = [
            f"{title_text(row)} (claimed {claim_text(params.comparisons[row.name])}, effect {effect_text(row)})"
            for row in by_verdict["contradicted"]
        ]
        said.append(f"Contradicted: {'; '.join(claims)}.")
    if max_seeds(runs) == 1:
        said.append("With one seed no claim on what is measured can be decided: the spread over seeds is unknown.")
    return said


def comment(params: ReportParams, runs: pd.DataFrame, compared: Comparisons, num_images: Mapping[str, int]) -> str:
    """results/report.md."""
    shown = ("variant", "n", "val accuracy, %", "test accuracy, %")
    accuracies = [{key: cells[key] for key in shown} for cells in accuracy_rows(runs, num_images)]
    order = ["contradicted", "supported", "undecided", "not comparable"]
    said = " ".join(sentences(params, runs, compared, num_images))
    parts = [f"## Ablation on {data_name(params.label)}\n", warning(params.label) + said]
    if effects := effect_rows(compared.rows, claim_texts(params.comparisons)):
        parts += ["", text_table(effects, "pipe", right=["n"])]
    parts += [
        "",
        _folded(
            f"Accuracy of {counted(len(accuracies), 'variant')}, best validation accuracy first: mean ± 95 % interval",
            accuracies,
        ),
    ]
    if compared.rows:
        columns = ("answer", "comparison", "claim", "effect [95 %]", "n")
        by_verdict = sorted(compared.rows, key=lambda row: order.index(row.verdict))
        verdicts = [
            {key: row[key] for key in columns} for row in (cells(row, params.comparisons) for row in by_verdict)
        ]
        answers = [
            {
                "": str(found.number),
                "statement": found.statement,
                "answer": found.answer,
                "evidence": "; ".join(found.evidence),
            }
            for found in statements.findings(compared)
        ]
        parts.append(_folded("The study's twelve statements", answers))
        parts.append(_folded(counted(len(verdicts), "claim"), verdicts))
    return "\n".join([*parts, "Charts and the decision rule: `results/report.html`.\n"])


def _folded(summary: str, rows: list[dict[str, str]]) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text_table(rows, 'pipe')}\n\n</details>\n"
