"""The cells of the page's tables."""

import dataclasses
import re

import pytest

from ablation.reporting import comparison_tables, page_tables
from ablation.reporting.page import Report
from tests.reporting.test_page import Tables


def test_a_comparison_is_told_in_points(report: Report) -> None:
    row = dataclasses.replace(report.compared.rows[0], detectable=0.0123, test_difference=0.31, p_holm=None)
    cells = page_tables.comparison_row(dataclasses.replace(row, test_low=0.25, test_high=0.37), report.params)
    images = "+31.00 [+25.00,\N{NO-BREAK SPACE}+37.00]"
    assert (cells["detectable"], cells["images"], cells["p_order"]) == ("1.23", images, 2)


def test_the_cells_of_a_comparison_are_under_their_headings(html: str, report: Report) -> None:
    headings, first, *_ = Tables(html).rows["comparison-table"]
    assert headings == [
        *("comparison", "effect [95 %]", "verdict", "claim", "measured", "n", "p (Holm)", "detectable"),
        "on the test images",
    ]
    cells = page_tables.comparison_row(report.compared.rows[0], report.params)
    assert first[5:] == [cells["n"], cells["p"], cells["detectable"], cells["images"]]
    assert '<span class="verdict supported">✓ supported</span>' in html
    assert '<span class="verdict contradicted">✗ contradicted</span>' in html


def test_effects_are_sorted_by_what_they_show(report: Report) -> None:
    """For an upper bound on a variant alone that is the value itself: 61 %, 4 points below the bound."""
    row = next(row for row in report.compared.rows if row.name == "resnet20")
    bounded = dataclasses.replace(row, claim="at_most", variant_mean=0.61, difference=-0.04, low=None, high=None)
    cells = [page_tables.comparison_row(row, report.params) for row in (bounded, row)]
    assert (cells[0]["effect"], cells[0]["effect_order"]) == ("61.00", pytest.approx(0.61))
    assert cells[1]["effect"].startswith("+0.30") and cells[1]["effect_order"] == pytest.approx(0.003)


def test_seeds_that_differ_are_told_with_their_variants() -> None:
    seeds = {"a": [0, 1], "b": [0, 1, 2], "c": [0, 1], "d": [5]}
    assert page_tables.seeds_text(seeds) == "0, 1; of b: 0, 1, 2; of d: 5"
    assert page_tables.seeds_text({"a": [0, 1], "b": [0, 1]}) == "0, 1"


def test_a_number_of_the_ablation_is_sorted_by_what_it_shows(report: Report) -> None:
    scales = {"val accuracy, %": 100, "test accuracy, %": 100, "gap, points": 100, "multiply-adds, M": 1e-6}
    for row in page_tables.ablation_rows(report.runs, report.num_images):
        for heading, (text, order) in row["numbers"].items():
            shown = float(re.sub(r" ±.*|,", "", text))
            assert shown == pytest.approx(scales.get(heading, 1) * order, rel=1e-3, abs=0.06), heading


def test_the_p_of_the_markdown_table_is_the_corrected_one(report: Report) -> None:
    row = dataclasses.replace(report.compared.rows[0], p=0.0123, p_holm=0.0456)
    assert comparison_tables.cells(row, report.params.comparisons)["p (Holm)"] == "0.0456"
