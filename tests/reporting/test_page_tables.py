"""The cells of the page's tables."""

import dataclasses

import pytest

from ablation.reporting import page_tables
from ablation.reporting.page import Report
from tests.reporting.test_page import Tables


def test_a_comparison_is_told_in_points(report: Report) -> None:
    row = dataclasses.replace(report.compared.rows[0], detectable=0.0123, test_difference=0.31, p_holm=None)
    cells = page_tables.comparison_row(dataclasses.replace(row, test_low=0.25, test_high=0.37), report.params)
    assert (cells["detectable"], cells["images"], cells["p_order"]) == ("1.23", "+31.00 [+25.00, +37.00]", 2)


def test_the_cells_of_a_comparison_are_under_their_headings(html: str, report: Report) -> None:
    headings, first, *_ = Tables(html).rows["comparison-table"]
    assert headings == [
        *("comparison", "effect [95 %]", "verdict", "the study claims", "measured", "n", "p (Holm)", "detectable"),
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
