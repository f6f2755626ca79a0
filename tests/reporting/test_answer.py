"""The answer in a paragraph, the study's statements, and the comment on a pull request."""

import dataclasses
from pathlib import Path

import pandas as pd
import yaml

from ablation.analysis.comparisons import Comparisons
from ablation.reporting import answer, page_tables, statements, tables
from ablation.reporting.page import Report

PARAMS = Path(__file__).parents[2] / "params.yaml"
SIZES = {"train": 90, "val": 80, "test": 70}


def said(report: Report) -> list[str]:
    return answer.sentences(report.params, report.runs, report.compared, report.num_images)


def test_the_answer_names_the_best_and_the_contradicted(report: Report) -> None:
    # By hand: test accuracies 0.90, 0.90, 0.93 of resnet20; 4.303 * 0.01732 / sqrt 3 = 0.0430.
    assert said(report) == [
        "Of 4 variants with 3 seeds each, trained on 100 images of digits, not official CIFAR-10, resnet20 has the "
        "best validation accuracy; it recognises 91.00 ± 4.30 % of the test images (mean and 95 % interval).",
        "7 claims tested: 3 supported, 1 contradicted, 3 undecided; not comparable: 1; not run: 1.",
        "Contradicted: Title of l2_too_strong (claimed lower, effect +8.00 [+3.03, +12.97]).",
    ]


def test_one_seed_decides_nothing_and_has_no_interval(one_seed_report: Report) -> None:
    first, second, *_, last = said(one_seed_report)

    assert first.endswith("it recognises 90.00 % of the test images.")
    assert "0 supported, 0 contradicted, 7 undecided" in second
    assert last == "With one seed no claim on what is measured can be decided: the spread over seeds is unknown."


def test_the_best_is_chosen_without_the_test_images(report: Report) -> None:
    runs = report.runs.assign(test_accuracy=report.runs["test_accuracy"].where(report.runs["variant"] != "l2_0", 0.99))

    assert tables.best_first(runs) == tables.best_first(report.runs) == ["resnet20", "l2_0", "simple_nn", "lr_1e-0"]


def test_equal_accuracies_have_the_interval_of_one_image() -> None:
    equal = pd.Series([0.1, 0.1, 0.1])

    assert tables.accuracy_text(equal, 100) == "10.00 ± 2.48"  # 4.303 * 0.01 / sqrt 3


def test_the_comment_has_the_answer_and_folded_tables(report: Report) -> None:
    page = answer.comment(report.params, report.runs, report.compared, report.num_images)

    assert page.startswith(
        "## Ablation on digits, not official CIFAR-10\n\n> **These are digits, not official CIFAR-10."
    )
    assert " ".join(said(report)) in page
    assert page.count("<details>") == page.count("</details>") == 3
    end = "</details>\n\nCharts and the decision rule: `results/report.html`.\n"  # without the empty line also HTML
    assert page.endswith(end)
    ranked = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|") and "±" in line][:4]
    assert ranked == ["resnet20", "l2_0", "simple_nn", "lr_1e-0"]
    answers = [
        line.split("|")[1].split()[0]
        for line in page.partition("8 claims</summary>")[2].splitlines()
        if "| Title of" in line
    ]
    assert answers == ["contradicted", *["supported"] * 3, *["undecided"] * 3, "not"]


def test_a_comment_without_comparisons_has_one_table(report: Report) -> None:
    runs = report.runs[report.runs["variant"] == "resnet20"]
    page = answer.comment(report.params, runs, Comparisons([], {}), report.num_images)

    assert page.count("<details>") == 1
    assert "0 claims tested" in page
    assert "<summary>Accuracy of 1 variant, best" in page


def test_each_statement_has_the_answer_of_its_comparisons(report: Report) -> None:
    findings = statements.findings(report.compared)

    assert [finding.number for finding in findings] == list(range(1, 13))
    answers = {finding.number: finding.answer for finding in findings if finding.answer != "not run"}
    assert answers == {10: "undecided", 11: "supported", 12: "contradicted"}
    by_number = {finding.number: finding for finding in findings}
    assert by_number[10].evidence[0] == "Title of skip_connections: +29.00 [+26.52, +31.48], n = 3: supported"
    alike = "all seeds agree: their standard deviation is taken as one image"
    assert by_number[11].evidence[0].endswith(f"n = 3: supported, 2 of 3 runs diverged, {alike}")
    assert by_number[6].evidence == ["l1_sparsity was not run: it is not in aggregate.comparisons of params.yaml"]
    assert by_number[6].tested.startswith("the share of weights below a thousandth")


def test_the_table_of_statements_has_a_row_for_each(report: Report) -> None:
    table = statements.table(report.compared)

    assert list(table.columns) == ["number", "statement", "answer", "tested", "evidence"]
    assert table["number"].to_list() == list(range(1, 13))
    assert table["evidence"][9].startswith("Title of skip_connections: +29.00 [+26.52, +31.48], n = 3: supported; ")


def test_a_piece_of_evidence_has_no_semicolon_that_would_split_it(report: Report) -> None:
    reason = "speeds of different machines do not compare: device cpu A and cpu B; torch 2.11 and 2.14"
    compared = report.compared._replace(not_run={"dws_speed": reason})

    table = statements.table(compared)

    assert table["evidence"][7].split("; ")[-1] == f"dws_speed was not run: {reason.replace(';', ',')}"


def test_a_statement_is_supported_only_by_all_of_its_comparisons(report: Report) -> None:
    rows = {row.name: row for row in report.compared.rows}
    rows["other_data"] = dataclasses.replace(rows["skip_connections"], verdict="not comparable")

    def answered(run: dict[str, str], not_run: dict[str, str]) -> str:
        """Statement 8, with the verdict of one of the rows above for each of its comparisons."""
        compared = [dataclasses.replace(rows[like], name=name) for name, like in run.items()]
        return statements.findings(Comparisons(compared, not_run))[7].answer

    supported, undecided = "skip_connections", "resnet20"
    counted = {"dws_parameters": supported, "dws_multiply_adds": supported}
    assert answered(counted | {"dws_speed": supported}, {}) == "supported"
    assert answered(counted | {"dws_speed": undecided}, {}) == "undecided"
    assert answered(counted | {"dws_speed": "l2_too_strong"}, {}) == "contradicted"
    assert answered(counted, {"dws_speed": "resnet20_dws is not in the study"}) == "undecided"
    assert answered({"dws_speed": "other_data"}, {}) == "not comparable"  # nothing else was run
    assert answered(counted | {"dws_speed": "other_data"}, {}) == "undecided"
    assert answered(dict.fromkeys([*counted, "dws_speed"], "other_data"), {}) == "not comparable"
    assert answered({}, dict.fromkeys([*counted, "dws_speed"], "resnet20_dws is not in the study")) == "not run"


def test_statements_are_tested_by_comparisons_that_are_declared() -> None:
    declared = yaml.safe_load(PARAMS.read_text())["aggregate"]["comparisons"]

    named = [name for statement in statements.STATEMENTS for name in statement.comparisons]
    assert set(named) <= set(declared)
    assert len(statements.STATEMENTS) == 12
    assert all(statement.comparisons and statement.tested for statement in statements.STATEMENTS)


def test_the_bounds_that_a_statement_tells_are_those_of_its_claims() -> None:
    declared = yaml.safe_load(PARAMS.read_text())["aggregate"]["comparisons"]
    claims = {name: comparison["claim"] for name, comparison in declared.items()}
    told = {
        "batch_norm_mean_normalized": "at most {value:g}",
        "batch_norm_mean": "at most {value:g}",
        "adam": "within {percent:g} points",
        "convergence_without_bn": "at most {value:g} more",
        "convergence_without_bn_60": "at most {value:g} more",
        "lr_1e-0_chance": "at most {percent:g} %",
    }
    for name, text in told.items():
        (tested,) = [statement.tested for statement in statements.STATEMENTS if name in statement.comparisons]
        value = claims[name].get("value", claims[name].get("margin"))
        assert text.format(value=value, percent=100 * value) in tested


def test_how_many_images_are_those_of_their_split(report: Report) -> None:
    """Where seeds agree, the interval shows it: ± 4.303 / sqrt 3 = 2.484 images of the split."""
    assert "trained on 90 images" in answer.sentences(report.params, report.runs, report.compared, SIZES)[0]
    agree = report.runs.assign(val_accuracy=0.5, test_accuracy=0.5)
    said = answer.sentences(report.params, agree, report.compared, SIZES)[0]
    assert "50.00 ± 3.55 % of the test images" in said
    cells = tables.accuracy_rows(agree, SIZES)[0]
    assert (cells["val accuracy, %"], cells["test accuracy, %"]) == ("50.00 ± 3.11", "50.00 ± 3.55")
    facts = dict(page_tables.facts(report.params, report.runs, SIZES, {}))
    assert facts["images"] == "90 training, 80 validation, 70 test"
    told = tables.with_num_images(report.runs, SIZES).iloc[0]
    assert (told["train_images"], told["val_images"], told["test_images"]) == (90, 80, 70)


def test_the_comment_has_the_seeds_of_each_comparison(report: Report) -> None:
    page = answer.comment(report.params, report.runs, report.compared, report.num_images)
    rows = [line.split("|") for line in page.partition("claims</summary>")[2].splitlines() if "| Title of" in line]
    assert [row[5].strip() for row in rows] == ["3"] * 8
