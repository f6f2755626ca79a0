"""Stage aggregate: all runs of the study -> results/."""

from pathlib import Path

from ablation.analysis.classes import read_classes
from ablation.analysis.comparisons import compare
from ablation.analysis.params import ReportParams
from ablation.analysis.predictions import read_predictions
from ablation.analysis.runs import read_study
from ablation.common.errors import run
from ablation.common.files import write_json, write_text
from ablation.reporting import answer, comparison_tables, cost, figures, forest, page, style, tables


def main() -> None:
    params = ReportParams.read("configs/aggregate.yaml")
    results = Path("results")
    runs, curves = read_study(params, Path("runs"))
    correct, num_images = read_predictions(params, Path("runs"))
    compared = compare(params.comparisons, runs, correct, num_images)
    points = tables.sweep_points(params, runs)

    write_text(results / "ablation.csv", runs.to_csv(index=False))
    write_text(results / "curves.csv", curves.to_csv(index=False))
    write_text(results / "sweeps.csv", points.to_csv(index=False))
    write_text(results / "comparisons.csv", comparison_tables.tidy(compared, params.comparisons).to_csv(index=False))
    write_json(results / "summary.json", tables.metrics(runs))
    section = comparison_tables.markdown(compared, params.comparisons)
    write_text(results / "ablation.md", tables.markdown(runs, params.label) + section)
    write_text(results / "report.md", answer.comment(params, runs, compared, num_images))
    print(tables.text(runs, params.label))

    charts = {
        "learning_curves": figures.learning_curves(runs, curves, params.label),
        "accuracy": figures.accuracy_by_variant(runs, params.label),
        "cost": cost.cost(runs, params.label),
    }
    for name, group in forest.groups(compared.rows).items():
        charts[name] = forest.forest(group, params.comparisons, params.label)
    for name in params.sweeps:
        rows = points[points["sweep"] == name]
        if rows.empty:
            print(f"note: no figure of the sweep {name}: fewer than two of its values are in the study")
        else:
            charts[f"sweep_{name}"] = figures.sweep(rows, params.label)
    for name, chart in charts.items():
        path = results / "figures" / f"{name}.png"
        style.write_png(chart, path)
        print(f"figure: {path}")
    classes = read_classes(params, Path("runs"))
    report = page.Report(params, runs, curves, points, classes, compared, num_images)
    write_text(results / "report.html", page.page(report))
    print(f"page: {results / 'report.html'}")
    print("\n" + comparison_tables.text(compared, params.comparisons))


if __name__ == "__main__":
    run(main)
