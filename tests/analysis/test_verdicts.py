"""Verdicts on differences over seeds: each formula against SciPy, statsmodels or by hand."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from ablation.analysis.differences import (
    CONFIDENCE,
    Difference,
    FloatArray,
    one_sample,
    two_samples,
)
from ablation.analysis.params import EqualParams, HigherParams, LowerParams, NumberParams
from ablation.analysis.verdicts import (
    ALPHA,
    POWER,
    RULE,
    claim_range,
    decide,
    detectable_distance,
    distances_to_clear,
    power,
    seeds_needed,
)

A = np.array([0.712, 0.705, 0.721, 0.709, 0.716])
B = np.array([0.701, 0.699, 0.703, 0.712, 0.690])
SHORT = np.array([0.69, 0.72, 0.74])
INFINITY = np.array([math.inf])


def one(difference: Difference) -> Difference:
    """A family of one comparison."""
    return Difference(*(np.atleast_1d(values) for values in difference))


def bounds(low: float, high: float) -> tuple[FloatArray, FloatArray]:
    return np.array([low]), np.array([high])


def test_a_figure_is_tested_as_by_scipys_one_sample_test() -> None:
    difference = one(one_sample(A - 0.7322, 0.0))

    lower, upper = (stats.ttest_1samp(A, 0.7322 + bound).pvalue for bound in (-0.025, 0.025))
    assert decide(difference, *bounds(-0.025, 0.025)).p == pytest.approx(max(lower, upper))


@pytest.mark.parametrize("margin", [0.012, 0.02, 0.05])
def test_equal_within_a_margin_is_twice_the_p_value_of_statsmodels_tost(margin: float) -> None:
    low, high = bounds(-margin, margin)

    assert decide(one(one_sample(A - B, 0.0)), low, high).p == pytest.approx(2 * ttost_paired(A, B, -margin, margin)[0])


def test_independent_samples_are_equal_by_two_one_sided_tests() -> None:
    error = math.sqrt(A.var(ddof=1) / 5 + SHORT.var(ddof=1) / 3)
    difference = A.mean() - SHORT.mean()
    one_sided = stats.t.sf([(difference + 0.05) / error, (0.05 - difference) / error], 2)
    assert decide(one(two_samples(A, SHORT, 0.0)), *bounds(-0.05, 0.05)).p == pytest.approx(2 * max(one_sided))


@pytest.mark.parametrize("low, high", [(0.0, math.inf), (-0.01, 0.01), (0.005, 0.02), (-0.05, 0.05), (0.02, 0.1)])
def test_alone_a_claim_is_decided_where_the_interval_lies_within_its_range_or_without(low: float, high: float) -> None:
    for difference in (one(one_sample(A - B, 0.0)), one(two_samples(A, B, 0.0)), one(two_samples(A, SHORT, 0.0))):
        (interval_low,), (interval_high,) = difference.interval()
        within = low < interval_low and interval_high < high
        without = interval_high < low or high < interval_low
        expected = "supported" if within else "contradicted" if without else "undecided"
        assert decide(difference, *bounds(low, high)).verdicts == [expected]


def test_a_difference_on_the_bound_is_undecided() -> None:
    one = np.array([1.0])
    difference = Difference(0 * one, 1e-6 * one, 4 * one, 5**0.5 * 1e-6 * one)

    decisions = decide(difference, np.array([0.0]), INFINITY)
    assert decisions.verdicts == ["undecided"]
    assert decisions.p == 1


def test_holms_correction_is_over_the_family() -> None:
    p = np.array([0.04, 0.001, 0.03, 0.012])
    t = stats.t.isf(p / 2, 4)
    family = Difference(t * np.array([1, 1, -1, -1]), np.ones(4), np.full(4, 4.0), np.full(4, 5**0.5))

    decisions = decide(family, np.zeros(4), np.full(4, math.inf))

    # by hand, from the smallest: 4 * 0.001, 3 * 0.012, 2 * 0.03, then 0.04, which may not fall below the one before
    assert decisions.p == pytest.approx(p)
    assert decisions.p_holm == pytest.approx([0.06, 0.004, 0.06, 0.036])
    assert decisions.verdicts == ["undecided", "supported", "undecided", "contradicted"]


def test_what_a_claim_allows() -> None:
    assert claim_range(HigherParams(name="higher", settings={}), True) == (0, math.inf)
    assert claim_range(LowerParams(name="lower", settings={}), True) == (-math.inf, 0)
    assert claim_range(EqualParams(name="equal", margin=0.01, settings={}), True) == (-0.01, 0.01)
    number = NumberParams(name="number", value=0.16, tolerance=0.03, settings={})
    assert claim_range(number, True) == claim_range(number, False) == (-0.03, 0.03)


@pytest.mark.parametrize("num_seeds, level", [(2, 0.05), (3, 0.05), (3, 0.01), (5, 0.05), (5, 0.01), (30, 0.0125)])
def test_the_detectable_distance_is_found_with_80_percent_power(num_seeds: int, level: float) -> None:
    detectable = detectable_distance(0.004, num_seeds - 1.0, level)

    # Second route: SciPy's noncentral t. statsmodels' solver agrees where it converges.
    critical = stats.t.isf(level / 2, num_seeds - 1)
    assert stats.nct.sf(critical, num_seeds - 1, detectable / 0.004) == pytest.approx(POWER, abs=1e-6)
    if num_seeds >= 5:
        solved = TTestPower().solve_power(nobs=num_seeds, alpha=level, power=POWER)
        assert detectable == pytest.approx(solved * 0.004 * math.sqrt(num_seeds), rel=1e-4)


@pytest.mark.parametrize("effect", [0.15, 0.4, 1.0, 2.0])
@pytest.mark.parametrize("level", [0.05, 0.0125])
def test_the_seeds_needed_are_those_of_statsmodels(effect: float, level: float) -> None:
    spread = 0.006
    needed = seeds_needed([effect * spread], spread, 3, level)

    assert needed == math.ceil(TTestPower().solve_power(effect_size=effect, alpha=level, power=POWER))


@pytest.mark.parametrize("other_seeds", [3, 20])
def test_the_seeds_needed_by_welch_find_the_difference_with_80_percent_power(other_seeds: int) -> None:
    """That many seeds of both, however many the other variant already had."""
    sds, distance, rng = np.array([0.004, 0.012]), 0.01, np.random.default_rng(0)
    samples = [rng.normal(0, 1, n) for n in (3, other_seeds)]
    samples = [sd * (of - of.mean()) / of.std(ddof=1) for sd, of in zip(sds, samples, strict=True)]  # SD exactly `sds`
    first, second = samples
    difference = two_samples(first, second, 0.0)
    assert difference.spread == pytest.approx(math.hypot(*sds))
    needed = seeds_needed([distance], float(difference.spread), 3, 0.05)
    assert needed is not None

    variant, baseline = (rng.normal(0, sd, (4000, needed)) for sd in sds)
    found = two_samples(variant + distance, baseline, 0.0)
    p = 2 * stats.t.sf(np.abs(found.mean / found.standard_error), found.df)
    assert (p < 0.05).mean() == pytest.approx(POWER, abs=0.06)  # rounded up to whole seeds


@pytest.mark.parametrize("truth, spread", [(0.0, 0.01), (0.0, 0.015), (0.001, 0.01), (0.005, 0.01)])
def test_the_seeds_needed_find_a_difference_within_its_range_four_times_in_five(truth: float, spread: float) -> None:
    low, high = -0.01, 0.01
    needed = seeds_needed(distances_to_clear(truth, low, high), spread, 3, 0.05)
    assert needed is not None

    def found(num_seeds: int) -> float:
        samples = np.random.default_rng(0).normal(truth, spread, (20_000, num_seeds))
        interval_low, interval_high = one_sample(samples, 0.0).interval()
        return float(np.mean((low < interval_low) & (interval_high < high)))

    assert POWER - 0.01 < found(needed) < POWER + 0.05  # planned by a lower bound, rounded up to whole seeds
    assert found(round(0.8 * needed)) < POWER


def test_the_bounds_that_decide_are_all_from_within_and_the_nearest_from_without() -> None:
    assert distances_to_clear(0.002, -0.01, 0.01) == pytest.approx([0.012, 0.008])
    assert distances_to_clear(-0.03, -0.01, 0.01) == pytest.approx([0.02])
    assert distances_to_clear(0.03, 0.0, math.inf) == distances_to_clear(-0.03, 0.0, math.inf) == [0.03]


def test_seeds_needed_are_more_than_there_were_and_end_at_the_most() -> None:
    assert seeds_needed([1.0], 1e-9, 5, 0.05) == 6
    assert seeds_needed([1e-6], 0.01, 5, 0.05) is None
    assert seeds_needed([0.0], 0.01, 5, 0.05) is None


def test_power_is_one_where_statsmodels_loses_it() -> None:
    assert (power(np.geomspace(20, 1e5, 2000), 4.0, 0.05) > 0.999).all()


def test_the_rule_names_the_figures_it_is_computed_with() -> None:
    for figure in (
        f"{CONFIDENCE:.0%} t interval".replace("%", " %"),
        f"p < {ALPHA}",
        f"{POWER:.0%}".replace("%", " %"),
    ):
        assert figure in RULE


def test_a_thousand_seeds_are_the_most() -> None:
    assert seeds_needed([1.0], 1e-9, 999, 0.05) == 1000
    assert seeds_needed([1.0], 1e-9, 1000, 0.05) is None
