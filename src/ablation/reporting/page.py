"""results/report.html: the whole report in one file that opens from disk, without a network.

Charts are Altair's Vega-Lite specifications, drawn by Vega's own renderer, which vl-convert bundles; a reader chooses
with HTML input elements that Vega binds to. Tables are HTML and complete without JavaScript; DataTables, the most used
library for it, which the package itables bundles and which is accessible by keyboard, sorts and filters them. Neither
is reimplemented here, and nothing is loaded from elsewhere.
"""

import base64
import json
from collections import Counter
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
from ablation.analysis.comparisons import Comparisons
from ablation.analysis.layers import Layers
from ablation.analysis.params import ReportParams
from ablation.reporting import (
    answer,
    comparison_tables,
    cost,
    diagnostics,
    explorers,
    figures,
    forest,
    page_tables,
    provenance,
    statements,
)
from ablation.reporting.page_template import STYLE, TEMPLATE
from ablation.reporting.style import TESTED, VERDICTS, every_row
from ablation.reporting.tables import LEGEND, OFFICIAL, best_first, data_name


class Report(NamedTuple):
    """Everything that the page shows."""

    params: ReportParams
    runs: pd.DataFrame
    curves: pd.DataFrame
    points: pd.DataFrame  # of the sweeps
    classes: Classes
    compared: Comparisons
    num_images: Mapping[str, int]
    layers: Layers
    provenance: Mapping[str, Any]  # from provenance.provenance


def page(report: Report) -> str:
    """The page, as HTML; the same for the same runs."""
    label, runs, compared = report.params.label, report.runs, report.compared
    best, reference = _first_shown(runs)
    charts = {name: _parts(chart) for name, chart in _charts(report).items()}
    counts = Counter([*(row.verdict for row in compared.rows), *["not run"] * len(compared.not_run)])
    measures = diagnostics.measures(runs)
    assets = resources.files("itables") / "html"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(
        label=label,
        data=data_name(label),
        official=label == OFFICIAL,
        sentences=answer.sentences(report.params, runs, compared, report.num_images),
        effects=[page_tables.comparison_row(row, report.params) for row in comparison_tables.effects(compared.rows)],
        tally=[(word, counts[word]) for word in (*VERDICTS, "not run") if counts[word] or word in TESTED],
        facts=page_tables.facts(report.params, runs, report.num_images, provenance.lines(report.provenance)),
        ablation_legend=LEGEND,
        ablation=page_tables.ablation_rows(runs, report.num_images),
        published=page_tables.PUBLISHED,
        comparisons=[page_tables.comparison_row(row, report.params) for row in compared.rows],
        not_run=[
            (comparison_tables.title_text(report.params.comparisons[name]), reason)
            for name, reason in compared.not_run.items()
        ],
        legend=comparison_tables.LEGEND.strip(),
        rule=verdicts.RULE.split("\n\n"),
        statement_rule=statements.RULE,
        findings=statements.findings(compared),
        charts=charts,
        sweeps=[name for name in charts if name.startswith("sweep_")],
        variants=[(name, name) for name in runs["variant"].unique()],
        best=best,
        reference=reference,
        measures=measures,
        diagnosed=[(name, diagnostics.row(runs[runs["variant"] == name], measures)) for name in best_first(runs)],
        meanings=diagnostics.meanings(measures),
        costs=list(cost.MEASURES.items()),
        style=Markup(STYLE),
        table_style=Markup((assets / "dt_bundle.css").read_text(encoding="utf-8")),
        datatables=base64.b64encode((assets / "dt_bundle.js").read_bytes()).decode(),
        vega=Markup(vl_convert.javascript_bundle()),  # type: ignore[call-arg] # its stub lacks the default
    )


def _charts(report: Report) -> dict[str, alt.TopLevelMixin]:
    params, runs, label = report.params, report.runs, report.params.label
    rows = report.compared.rows

    def chosen(name: str, value: str, among: str = "") -> alt.Parameter:
        element = f"#choose-{among}{name}"
        return alt.param(name=name, value=value, bind=alt.BindDirect(element=element, event="change"))

    best, reference = _first_shown(runs)
    pair = chosen("first", best, "diagnosed-"), chosen("second", reference, "diagnosed-")
    charts = {
        "accuracy": figures.accuracy_by_variant(runs, report.num_images, label, on_page=True),
        "curves": explorers.curves(runs, report.curves, label, chosen("first", best), chosen("second", reference)),
        "per_class": explorers.per_class(report.classes, label, chosen("variant", best)),
        "confusion": explorers.confusion(report.classes, label, chosen("variant", best)),
        "mistakes": explorers.mistakes(report.classes, label, chosen("variant", best)),
        "weights": diagnostics.weights(report.layers, label, *pair),
        "gradients": diagnostics.gradients(report.layers, label, *pair),
        "cost": cost.cost(runs, label, chosen("measure", "multiply_adds")),
    }
    claimed = comparison_tables.claim_texts(params.comparisons)
    for name, group in forest.groups(rows).items():
        charts[name] = forest.forest(group, claimed, label, on_page=True)
    for name in report.points["sweep"].unique():
        charts[f"sweep_{name}"] = figures.sweep(report.points[report.points["sweep"] == name], label, on_page=True)
    return charts


def _first_shown(runs: pd.DataFrame) -> tuple[str, str]:
    """The variants shown first: that of the best validation accuracy and, to compare, the first of the others."""
    best, *_ = best_first(runs)
    return best, next((name for name in runs["variant"].unique() if name != best), best)


def _parts(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Title and caption as text, which wraps in HTML but not in a chart, and the rest as JSON."""
    with every_row():
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
