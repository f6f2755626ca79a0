"""The comparisons as tables: claims and effects in words, and nothing left out in silence."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from ablation.analysis.comparability import not_comparable
from ablation.analysis.comparisons import Comparisons, compare
from ablation.analysis.metrics import METRICS
from ablation.analysis.params import ReportParams
from ablation.analysis.predictions import read_predictions
from ablation.analysis.runs import read_num_images, read_study
from ablation.analysis.verdicts import RULE
from ablation.reporting import comparison_tables
from ablation.reporting.page import Report
from tests.reporting.fake_study import COMPARISONS, write_study


@pytest.fixture
def params(tmp_path: Path) -> ReportParams:
    return write_study(tmp_path)


@pytest.fixture
def compared(params: ReportParams, tmp_path: Path) -> Comparisons:
    runs = read_study(params, tmp_path / "runs").runs
    folder = tmp_path / "runs"
    num_images = read_num_images(params, folder)
    reasons = not_comparable(params, num_images)
    return compare(params.comparisons, runs, read_predictions(params, folder), num_images, reasons)


def cells(page: str) -> list[list[str]]:
    """The rows of a Markdown table without its header."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in page.splitlines() if line[:1] == "|"][2:]


def test_a_row_tells_claim_effect_and_answer(params: ReportParams, compared: Comparisons) -> None:
    rows = cells(comparison_tables.markdown(compared, params.comparisons))

    # By hand: differences 0.30, 0.29, 0.28; t = 0.29 / (0.01 / sqrt 3) = 50.2, and 4.303 standard errors are 0.0248.
    assert rows[0] == [
        *("Title of skip_connections", "higher", "+29.00 [+26.52, +31.48]", "0.0004", "3", "supported", "")
    ]
    by_title = {row[0]: row[1:] for row in rows}
    assert by_title["Title of resnet20"][:2] == ["90.70 ± 1.00 %", "+0.30 [-2.18, +2.78]"]
    assert by_title["Title of first_batch_loss (loss of the first batch)"][:2] == [
        "2.2998 ± 0.0100 nats",
        "+0.0028 nats",
    ]
    assert by_title["Title of gap_l2_none (training minus validation accuracy)"][0] == "higher"
    assert by_title["Title of lr_1e-0"][-1].startswith("2 of 3 runs diverged; all seeds agree")
    assert [row[-2] for row in rows] == [row[-1] for row in COMPARISONS.values()][:-1]


def test_what_was_not_run_is_listed_with_the_reason_and_the_rule_is_told(
    params: ReportParams, compared: Comparisons
) -> None:
    page = comparison_tables.markdown(compared, params.comparisons)

    assert "Not run:\n\n- Title of swish: simple_nn_bn_swish is not in the study\n" in page
    assert page.rstrip().endswith(RULE)


def test_a_study_without_comparisons_has_no_section() -> None:
    assert comparison_tables.markdown(Comparisons([], {}), {}) == ""
    assert comparison_tables.text(Comparisons([], {}), {}) == "no comparisons: params.yaml declares none"


def test_the_measure_is_told_once(params: ReportParams) -> None:
    gap = params.comparisons["gap_l2_none"]
    assert comparison_tables.title_text(gap) == "Title of gap_l2_none (training minus validation accuracy)"
    named = gap.model_copy(update={"title": "L2, training minus validation accuracy"})
    assert comparison_tables.title_text(named) == "L2, training minus validation accuracy"


def test_a_study_of_other_variants_compares_nothing_and_says_so(params: ReportParams) -> None:
    nothing = Comparisons([], dict.fromkeys(params.comparisons, "not in the study"))

    assert not cells(comparison_tables.markdown(nothing, params.comparisons))
    assert comparison_tables.text(nothing, params.comparisons).endswith("not run: 9 of 9, see results/ablation.md")
    assert comparison_tables.tidy(nothing, params)["verdict"].to_list() == ["not run"] * len(COMPARISONS)


def test_the_file_has_a_row_for_every_comparison_declared(params: ReportParams, compared: Comparisons) -> None:
    table = comparison_tables.tidy(compared, params)

    assert table["name"].to_list() == list(COMPARISONS)
    assert table["answer"].to_list() == [row[-1] for row in COMPARISONS.values()]
    claimed = dict(zip(table["name"], table["claimed"], strict=True))
    assert (claimed["skip_connections"], claimed["resnet20"]) == ("higher", "90.70 ± 1.00 %")
    settings = dict(zip(table["name"], table["settings"], strict=True))
    assert (settings["l2_too_strong"], settings["lr_1e-0"]) == ("weight_decay: 0.0001 → 0.0", "")
    assert settings["skip_connections"] == "model.name: simple_nn → resnet20"
    last = table.iloc[-1]
    assert (last["variant"], last["claim"], last["note"]) == (
        *("simple_nn_bn_swish", "higher", "simple_nn_bn_swish is not in the study"),
    )
    assert pd.isna(last["difference"]) and pd.isna(last["num_seeds"])
    assert table["seeds_needed"].dropna().to_list() == [19]


def test_claims_in_words(params: ReportParams) -> None:
    def words(metric: str, baseline: str | None, **claim: object) -> str:
        changed = params.comparisons["resnet20"].model_dump() | {"metric": metric, "baseline": baseline, "claim": claim}
        return comparison_tables.claim_text(type(params.comparisons["resnet20"]).model_validate(changed))

    assert words("val_accuracy", "simple_nn", name="equal", margin=0.01, settings={}) == "equal within 1.00 points"
    assert words("gap", "simple_nn", name="lower", settings={}) == "lower"
    assert (
        words("val_accuracy", "simple_nn", name="number", value=0.1632, tolerance=0.03, settings={"epochs": 30})
        == "+16.32 ± 3.00 points"
    )
    assert words("val_accuracy", None, name="number", value=0.1028, tolerance=0.02, settings={}) == "10.28 ± 2.00 %"
    assert words("epochs_to_converge", "simple_nn", name="at_most", value=3, settings={}) == "at most +3.0 epochs"
    assert words("batch_norm_mean", None, name="at_most", value=0.1, settings={}) == "at most 0.1000"


def test_a_figure_with_a_bound_is_shown_as_it_is(compared: Comparisons) -> None:
    figure = dataclasses.replace(compared.rows[0], metric="batch_norm_mean", baseline=None, claim="at_most")
    figure = dataclasses.replace(figure, variant_mean=0.0425, difference=-0.0575, low=-0.06, high=-0.055)
    assert comparison_tables.effect_text(figure) == "0.0425 [0.0400, 0.0450]"
    assert comparison_tables.effect_text(dataclasses.replace(figure, baseline="b")) == "-0.0575 [-0.0600, -0.0550]"


def test_every_metric_is_a_column_of_the_runs(params: ReportParams, tmp_path: Path) -> None:
    assert set(METRICS) <= set(read_study(params, tmp_path / "runs").runs)


def test_the_effects_of_changes_on_validation_accuracy_have_the_largest_gain_first(
    params: ReportParams, compared: Comparisons
) -> None:
    rows = comparison_tables.effect_rows(compared.rows, comparison_tables.claim_texts(params.comparisons))

    heading = "effect on val accuracy, points [95 %]"
    assert [(row["change"], row[heading], row["verdict"]) for row in rows] == [
        ("Title of skip_connections", "+29.00 [+26.52, +31.48]", "supported"),
        ("Title of l2_too_strong", "+8.00 [+3.03, +12.97]", "contradicted"),
    ]
    assert [(row["n"], row["claim"]) for row in rows] == [("3", "higher"), ("3", "lower")]


def test_small_p_values_are_not_zero() -> None:
    assert [comparison_tables.p_text(p) for p in (None, 3e-9, 0.01234)] == ["", "<0.0001", "0.0123"]


@pytest.mark.parametrize(
    ("metric", "difference", "text"),
    [
        ("parameters", -230_704, "-230.7 thousand"),
        ("multiply_adds", -34_158_592, "-34.16 million"),
        ("activation_bytes", 73_136, "+71.4 KiB"),
        ("images_per_second", 1234.4, "+1,234 images/s"),
    ],
)
def test_effects_in_their_units(report: Report, metric: str, difference: float, text: str) -> None:
    row = dataclasses.replace(report.compared.rows[0], metric=metric, difference=difference, low=None, high=None)
    assert comparison_tables.effect_text(row) == text


def test_seeds_are_told_of_both_where_they_differ(report: Report) -> None:
    row = dataclasses.replace(report.compared.rows[0], num_seeds=3, num_baseline_seeds=5)
    assert comparison_tables.seeds_text(row) == "3 and 5"


def test_an_effect_that_rounds_to_zero_has_no_minus(compared: Comparisons) -> None:
    row = next(row for row in compared.rows if row.name == "l2_too_strong")
    nothing = dataclasses.replace(row, difference=-1e-9, low=-1e-9, high=0.01)
    assert comparison_tables.effect_text(nothing) == "+0.00 [+0.00, +1.00]"
