"""The designs of a comparison: paired by seed, unpaired, or one-sample against a figure."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablation.analysis.comparisons import compare
from tests.analysis.test_comparisons import BASELINE, COMPARISONS, NUM_IMAGES, VAL, params, runs_of


def test_a_paired_row_holds_what_scipy_finds() -> None:
    (row,) = compare({"clear": COMPARISONS["clear"]}, runs_of(VAL), {}, NUM_IMAGES, {}).rows
    expected = stats.ttest_rel(VAL["better"], BASELINE)
    interval = expected.confidence_interval()

    assert (row.design, row.num_seeds, row.num_baseline_seeds) == ("paired", 5, 5)
    assert (row.variant_mean, row.baseline_mean) == pytest.approx((0.7316, 0.7012))
    assert row.difference == pytest.approx(0.0304)
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
    assert row.p == pytest.approx(expected.pvalue)
    assert row.effect_size == pytest.approx(expected.statistic / math.sqrt(5))
    assert (row.claim, row.claim_low, row.claim_high) == ("higher", 0, None)
    assert (row.answer, row.seeds_needed, row.note) == ("supported", None, "")


def renumbered(runs: pd.DataFrame, by: int) -> pd.DataFrame:
    """The runs of `better` with other seeds."""
    return runs.assign(seed=runs["seed"] + by * (runs["variant"] == "better"))


@pytest.mark.parametrize("by", [4, 5])  # 0 to 4 against 4 to 8 or 5 to 9
def test_variants_that_share_one_seed_or_none_are_compared_by_welch(by: int) -> None:
    (row,) = compare({"clear": COMPARISONS["clear"]}, renumbered(runs_of(VAL), by), {}, NUM_IMAGES, {}).rows
    error = math.sqrt(np.var(VAL["better"], ddof=1) / 5 + np.var(BASELINE, ddof=1) / 5)

    assert (row.design, row.num_seeds, row.num_baseline_seeds, row.note) == ("unpaired", 5, 5, "")
    assert row.p == pytest.approx(2 * stats.t.sf(row.difference / error, 4))
    assert (row.low, row.high) == pytest.approx(stats.t.interval(0.95, 4, row.difference, error))


def test_of_five_seeds_and_three_others_the_three_give_the_degrees_of_freedom() -> None:
    runs = renumbered(runs_of({"baseline": BASELINE[:3], "better": VAL["better"]}), 5)
    (row,) = compare({"clear": COMPARISONS["clear"]}, runs, {}, NUM_IMAGES, {}).rows
    error = math.sqrt(np.var(VAL["better"], ddof=1) / 5 + np.var(BASELINE[:3], ddof=1) / 3)
    assert (row.design, row.num_seeds, row.num_baseline_seeds) == ("unpaired", 5, 3)
    assert (row.low, row.high) == pytest.approx(stats.t.interval(0.95, 2, row.difference, error))


@pytest.mark.parametrize("by", [0, 3])  # 0 to 4 against 0 to 6 or 3 to 9
def test_the_seeds_that_both_have_are_compared_as_pairs_and_no_others(by: int) -> None:
    values, shared = [*VAL["better"], 0.735, 0.728], 5 - by
    runs = renumbered(runs_of({"baseline": BASELINE, "better": values}), by)
    runs.loc[(runs["variant"] == "better") & (runs["seed"] == 9), "diverged_epoch"] = 3  # not a shared one
    (row,) = compare({"clear": COMPARISONS["clear"]}, runs, {}, NUM_IMAGES, {}).rows
    expected = stats.ttest_rel(values[:shared], BASELINE[by:]).confidence_interval()

    assert (row.design, row.num_seeds, row.num_baseline_seeds, row.num_diverged) == ("paired", shared, shared, 0)
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert row.variant_mean - row.baseline_mean == pytest.approx(row.difference)
    assert row.note == f"compared on the {shared} seeds that both have, of 7 and 5"


def test_a_number_is_compared_with_the_difference_from_the_baseline() -> None:
    claim = {"name": "number", "value": 0.03, "tolerance": 0.01, "settings": {}}
    (row,) = compare({"gain": params(variant="better", claim=claim)}, runs_of(VAL), {}, NUM_IMAGES, {}).rows

    assert (row.design, row.claim_low, row.claim_high, row.verdict) == ("paired", -0.01, 0.01, "supported")
    assert row.difference == pytest.approx(0.0304 - 0.03)
    expected = stats.ttest_rel(VAL["better"], np.add(BASELINE, 0.03)).confidence_interval()
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))


def test_at_most_bounds_the_difference_or_the_value_itself_from_above() -> None:
    runs = runs_of(VAL)
    declared = {
        "within": params(variant="better", claim={"name": "at_most", "value": 0.05, "settings": {}}),
        "beyond": params(variant="better", claim={"name": "at_most", "value": 0.02, "settings": {}}),
        "alone": params(variant="better", baseline=None, claim={"name": "at_most", "value": 0.75, "settings": {}}),
        "above": params(variant="better", baseline=None, claim={"name": "at_most", "value": 0.72, "settings": {}}),
    }
    rows = compare(declared, runs, {}, NUM_IMAGES, {}).rows
    assert [row.verdict for row in rows] == ["supported", "contradicted", "supported", "contradicted"]
    assert (rows[0].claim_low, rows[0].claim_high, rows[2].claim_high) == (None, 0.05, 0)
    assert rows[2].difference == pytest.approx(0.7316 - 0.75)
    expected = stats.ttest_1samp(VAL["better"], 0.75)
    assert rows[2].p == pytest.approx(expected.pvalue)


def test_equal_losses_have_no_spread_to_go_by() -> None:
    claim = {"name": "number", "value": 2.3, "tolerance": 0.01, "settings": {}}
    comparison = params(variant="same", baseline=None, metric="first_batch_loss", claim=claim)
    (row,) = compare({"loss": comparison}, runs_of(VAL).assign(first_batch_loss=2.30), {}, NUM_IMAGES, {}).rows
    assert (row.verdict, row.p, row.low) == ("undecided", None, None)
    assert row.note == "all seeds agree: their standard deviation is unknown"
    assert row.answer == "undecided (all seeds agree)"

    (row,) = compare({"loss": comparison}, runs_of(VAL), {}, NUM_IMAGES, {}).rows
    assert row.difference == pytest.approx(0.002)
    assert row.verdict == "supported"


def test_differences_that_are_equal_but_for_rounding_are_alike() -> None:
    """0.79 - 0.755 and 0.815 - 0.78 are not the same float."""
    runs = runs_of({"baseline": [0.755, 0.780], "better": [0.790, 0.815]})
    (row,) = compare({"a": params(variant="better")}, runs, {}, {"val": 200}, {}).rows
    assert row.effect_size is None and row.note == "all seeds agree: their standard deviation is taken as one image"
    claim = {"name": "at_most", "value": 0.05, "settings": {}}
    runs["sparsity"] = runs["val_accuracy"].where(runs["variant"] == "baseline", runs["val_accuracy"] - 0.035)
    (row,) = compare({"a": params(variant="better", metric="sparsity", claim=claim)}, runs, {}, {}, {}).rows
    assert row.answer == "undecided (all seeds agree)"


def test_a_spread_below_the_least_step_of_the_metric_counts_as_one() -> None:
    runs = runs_of(VAL).assign(epochs_to_converge=7.0)
    claim = {"name": "at_most", "value": 3, "settings": {}}
    comparison = params(variant="better", metric="epochs_to_converge", claim=claim)
    (row,) = compare({"a": comparison}, runs, {}, NUM_IMAGES, {}).rows
    assert row.note == "all seeds agree: their standard deviation is taken as one epoch"
    assert row.low is not None and row.low == pytest.approx(-2.776445 / math.sqrt(5))


@pytest.mark.parametrize(
    ("metric", "step"),
    [
        *(("val_accuracy", 1 / 5000), ("test_accuracy", 1 / 10_000), ("train_accuracy", 1 / 45_000)),
        *(("gap", 1 / 5000), ("dead_units", 1 / 228)),
    ],
)
def test_seeds_that_agree_have_the_spread_of_one_step_of_their_metric(metric: str, step: float) -> None:
    runs = runs_of(VAL).assign(**{metric: 0.1})
    (row,) = compare({"a": params(variant="better", metric=metric)}, runs, {}, NUM_IMAGES, {}).rows
    assert row.low == pytest.approx(-2.776445 * step / math.sqrt(5))
