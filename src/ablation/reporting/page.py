"""results/report.html: the whole report in one file that opens from disk, without a network.

Charts are the Vega-Lite specifications of Altair with Vega's own renderer, which vl-convert carries; what a reader
chooses are HTML input elements that Vega binds to. Tables are HTML and complete without JavaScript; DataTables, the
most used library for it, which the package itables carries and which is accessible by keyboard, sorts and filters them.
Nothing of either is written here, and nothing is loaded from elsewhere.
"""

import base64
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

import altair as alt
import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup

from ablation.analysis import verdicts
from ablation.analysis.classes import Classes
from ablation.analysis.comparisons import Comparison, Comparisons
from ablation.analysis.params import ComparisonParams, ReportParams
from ablation.reporting import answer, comparison_tables, cost, explorers, figures, forest, statements
from ablation.reporting.page_template import STYLE, TEMPLATE
from ablation.reporting.tables import OFFICIAL, data_name, divergences

COLUMNS = [
    "test accuracy, %",
    "val accuracy, %",
    "n",
    "gap, points",
    "parameters",
    "multiply-adds, M",
    "seconds",
    "images/s",
]


class Report(NamedTuple):
    """All that the page tells."""

    params: ReportParams
    runs: pd.DataFrame
    curves: pd.DataFrame
    points: pd.DataFrame  # of the sweeps
    classes: Classes
    compared: Comparisons
    num_images: Mapping[str, int]


def page(report: Report) -> str:
    """The page, as HTML; the same for the same runs."""
    label, runs, compared = report.params.label, report.runs, report.compared
    best, reference = _first_shown(runs)
    charts = {name: _parts(chart) for name, chart in _charts(report).items()}
    counts = pd.Series([row.verdict for row in compared.rows], dtype=str).value_counts()
    tally = [(verdict, int(counts.get(verdict, 0))) for verdict in ("supported", "contradicted", "undecided")]
    assets = resources.files("itables") / "html"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(
        label=label,
        data=data_name(label),
        official=label == OFFICIAL,
        sentences=answer.sentences(report.params, runs, compared, report.num_images),
        tally=tally + ([("not run", len(compared.not_run))] if compared.not_run else []),
        facts=_facts(report),
        columns=COLUMNS,
        ablation=[
            _ablation_row(name, runs[runs["variant"] == name], report.num_images) for name in answer.best_first(runs)
        ],
        comparisons=[_comparison_row(row, report.params.comparisons[row.name]) for row in compared.rows],
        not_run=[(report.params.comparisons[name].title, reason) for name, reason in compared.not_run.items()],
        rule=verdicts.RULE.split("\n\n"),
        statement_rule=statements.RULE,
        findings=statements.findings(compared),
        charts=charts,
        sweeps=[name for name in charts if name.startswith("sweep_")],
        variants=[(name, name) for name in runs["variant"].unique()],
        best=best,
        reference=reference,
        measures=list(cost.MEASURES.items()),
        style=Markup(STYLE),
        table_style=Markup((assets / "dt_bundle.css").read_text(encoding="utf-8")),
        datatables=base64.b64encode((assets / "dt_bundle.js").read_bytes()).decode(),
        vega=Markup(vl_convert.javascript_bundle()),  # type: ignore[call-arg] # its stub lacks the default
    )


def _charts(report: Report) -> dict[str, alt.TopLevelMixin]:
    params, runs, label = report.params, report.runs, report.params.label
    rows = report.compared.rows

    def chosen(element: str, value: str) -> alt.Parameter:
        return alt.param(name=element, value=value, bind=alt.BindDirect(element=f"#choose-{element}", event="change"))

    best, reference = _first_shown(runs)
    charts = {
        "accuracy": figures.accuracy_by_variant(runs, label, on_page=True),
        "curves": explorers.curves(runs, report.curves, label, chosen("first", best), chosen("second", reference)),
        "per_class": explorers.per_class(report.classes, label, chosen("variant", best)),
        "confusion": explorers.confusion(report.classes, label, chosen("variant", best)),
        "cost": cost.cost(runs, label, chosen("measure", "multiply_adds")),
    }
    for name, group in forest.groups(rows).items():
        charts[name] = forest.forest(group, params.comparisons, label, on_page=True)
    for name in report.points["sweep"].unique():
        charts[f"sweep_{name}"] = figures.sweep(report.points[report.points["sweep"] == name], label, on_page=True)
    return charts


def _first_shown(runs: pd.DataFrame) -> tuple[str, str]:
    """The most accurate variant and, beside it, the first of the others."""
    best, *_ = answer.best_first(runs)
    return best, next((name for name in runs["variant"].unique() if name != best), best)


def _parts(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Heading and caption, which wrap as HTML where they would not in the chart, and the rest as JSON."""
    spec = chart.to_dict()
    title = spec.pop("title")
    caption = title["subtitle"] if isinstance(title["subtitle"], str) else " ".join(title["subtitle"])
    spec |= {"description": f"{title['text']}. {caption}", "padding": 4, "background": "transparent"}
    spec["config"]["axis"]["labelFontSize"] = spec["config"]["axis"]["titleFontSize"] = 12
    spec["config"]["legend"]["labelFontSize"] = 12
    return {
        "title": title["text"],
        "caption": caption,
        "spec": Markup(json.dumps(spec, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
    }


def _facts(report: Report) -> list[tuple[str, str]]:
    runs = report.runs
    images = {"validation": report.num_images.get("val_accuracy"), "test": report.num_images.get("test_accuracy")}
    facts = {
        "data": data_name(report.params.label),
        "images": ", ".join(f"{number:,} {name}" for name, number in images.items() if number),
        "variants": f"{runs['variant'].nunique()}: {', '.join(runs['variant'].unique())}",
        "seeds": ", ".join(map(str, report.params.seeds)),
        "training": f"{runs['seconds'].sum() / 60:,.1f} minutes, the sum over {len(runs)} runs",
        **{name: ", ".join(map(str, runs[name].unique())) for name in ("device", "precision", "python", "torch")},
    }
    return [(name, value) for name, value in facts.items() if value]


def _ablation_row(variant: str, runs: pd.DataFrame, num_images: Mapping[str, int]) -> dict[str, Any]:
    def accuracy(column: str) -> tuple[str, float]:
        return answer.accuracy_text(runs[column], num_images.get(column)), float(runs[column].mean())

    gap, seconds, speed = (float(runs[name].mean()) for name in ("gap", "seconds", "images_per_second"))
    parameters, multiply_adds = (int(runs[name].iloc[0]) for name in ("parameters", "multiply_adds"))
    numbers = [
        accuracy("test_accuracy"),
        accuracy("val_accuracy"),
        (str(len(runs)), len(runs)),
        (_shown(100 * gap, "+.2f"), gap),
        (f"{parameters:,}", parameters),
        (f"{multiply_adds / 1e6:.2f}", multiply_adds),
        (_shown(seconds, ",.1f"), seconds),
        (_shown(speed, ",.0f"), speed),
    ]
    return {"variant": variant, "numbers": numbers, "notes": divergences(runs)}


def _comparison_row(row: Comparison, params: ComparisonParams) -> dict[str, Any]:
    scale, digits = (1, 4) if comparison_tables.is_loss(row.metric) else (100, 2)
    means = [mean for mean in (row.variant_mean, row.baseline_mean) if mean is not None]
    images = ""
    if row.test_difference is not None:
        images = f"{100 * row.test_difference:+.2f}"
        if row.test_low is not None and row.test_high is not None:
            images += f" [{100 * row.test_low:+.2f}, {100 * row.test_high:+.2f}]"
    return {
        "title": comparison_tables.title_text(row),
        "claim": comparison_tables.claim_text(params),
        "measured": " against ".join(f"{scale * mean:.{digits}f}" for mean in means),
        "effect": comparison_tables.effect_text(row),
        "difference": row.difference,
        "p": comparison_tables.p_text(row.p_holm),
        "p_order": 2 if row.p_holm is None else row.p_holm,
        "n": comparison_tables.seeds_text(row),
        "answer": row.answer,
        "detectable": "" if row.detectable is None else f"{scale * row.detectable:.{digits}f}",
        "images": images,
        "notes": row.note,
    }


def _shown(value: float, form: str) -> str:
    return "" if pd.isna(value) else format(value, form)
