"""Stage aggregate: all runs of the study -> results/."""

from pathlib import Path

from ablation.common.errors import run


def main() -> None:
    from ablation.analysis.classes import read_classes
    from ablation.analysis.comparability import not_comparable, sweep_obstacle
    from ablation.analysis.comparisons import compare
    from ablation.analysis.layers import read_layers
    from ablation.analysis.params import ReportParams
    from ablation.analysis.predictions import read_predictions
    from ablation.analysis.runs import read_num_images, read_study, remove_others
    from ablation.common.files import write_json, write_text
    from ablation.reporting import answer, comparison_tables, figures, page, provenance, statements, style, tables

    params = ReportParams.read("configs/aggregate.yaml")
    folder, results = Path("runs"), Path("results")
    remove_others(params, folder)
    runs, curves = read_study(params, folder)
    num_images = read_num_images(params, folder)
    reasons = not_comparable(params, num_images)
    compared = compare(params.comparisons, runs, read_predictions(params, folder), num_images, reasons)
    classes, layers = read_classes(params, folder), read_layers(params, folder)
    points = tables.sweep_points(params, runs)
    origin = provenance.provenance()

    frames = {
        "ablation": tables.with_num_images(runs, num_images),
        "curves": curves,
        "sweeps": points,
        "comparisons": comparison_tables.tidy(compared, params),
        "statements": statements.table(compared),
    }
    for name, frame in frames.items():
        write_text(results / f"{name}.csv", frame.to_csv(index=False))
    write_json(results / "summary.json", tables.summary(runs))
    write_json(results / "provenance.json", origin)
    section = comparison_tables.markdown(compared, params.comparisons)
    write_text(results / "ablation.md", tables.markdown(runs, num_images, params.label) + section)
    write_text(results / "report.md", answer.comment(params, runs, compared, num_images))
    print(tables.text(runs, num_images, params.label))

    charts = figures.all_figures(params, runs, curves, points, compared, num_images)
    for name, sweep in params.sweeps.items():
        if reason := sweep_obstacle(sweep, params.variants):
            print(f"note: no figure of the sweep {name}: {reason}")
    for name, chart in charts.items():
        path = results / "figures" / f"{name}.png"
        style.write_png(chart, path)
        print(f"figure: {path}")
    report = page.Report(params, runs, curves, points, classes, compared, num_images, layers, origin)
    write_text(results / "report.html", page.page(report))
    print(f"page: {results / 'report.html'}")
    print("\n" + comparison_tables.text(compared, params.comparisons))


if __name__ == "__main__":
    run(main)
