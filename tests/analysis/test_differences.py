"""Differences over seeds and over images: each formula against SciPy, statsmodels or by hand."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from ablation.analysis.differences import (
    CONFIDENCE,
    FloatArray,
    cohen_dz,
    hedges_g,
    one_sample,
    over_images,
    two_samples,
)
from ablation.analysis.verdicts import decide
from tests.analysis.test_verdicts import SHORT, A, B, bounds, one


def test_the_paired_difference_is_scipys() -> None:
    expected = stats.ttest_rel(A, B)
    interval = expected.confidence_interval(CONFIDENCE)
    difference = one(one_sample(A - B, 0.0))

    assert difference.mean == pytest.approx(A.mean() - B.mean())
    assert difference.df == pytest.approx(expected.df) == 4
    assert difference.spread == pytest.approx(np.std(A - B, ddof=1))
    assert np.squeeze(difference.interval()) == pytest.approx([interval.low, interval.high])
    assert decide(difference, *bounds(0.0, math.inf)).p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("other", [B, SHORT])
def test_welchs_statistic_is_scipys_and_has_the_degrees_of_freedom_of_the_smaller_sample(other: FloatArray) -> None:
    expected = stats.ttest_ind(A, other, equal_var=False)
    difference = one(two_samples(A, other, 0.0))

    assert difference.mean == pytest.approx(A.mean() - other.mean())
    assert difference.mean / difference.standard_error == pytest.approx(expected.statistic)
    assert difference.df == len(other) - 1 < expected.df
    p = stats.t.sf(abs(expected.statistic), len(other) - 1) * 2
    assert decide(difference, *bounds(-math.inf, 0.0)).p == pytest.approx(p)
    (low,), (high,) = difference.interval()
    narrower = expected.confidence_interval(CONFIDENCE)
    assert low < narrower.low and narrower.high < high


def test_equal_seeds_count_as_a_spread_of_one_image() -> None:
    resolution = 1 / 5000
    difference = one_sample(np.full(3, -0.0028), resolution)

    assert difference.standard_error == pytest.approx(resolution / math.sqrt(3))
    low, high = difference.interval()
    assert high - low == pytest.approx(2 * 4.302653 * resolution / math.sqrt(3))
    apart = two_samples(np.full(3, 0.1), np.full(2, 0.1), resolution)
    assert apart.standard_error == pytest.approx(resolution * math.sqrt(1 / 3 + 1 / 2))
    assert apart.df == 1


def test_effect_sizes() -> None:
    differences = A - B
    assert cohen_dz(differences) == pytest.approx(stats.ttest_rel(A, B).statistic / math.sqrt(5))
    pooled = math.sqrt((4 * A.var(ddof=1) + 2 * SHORT.var(ddof=1)) / 6)
    assert hedges_g(A, SHORT) == pytest.approx((A.mean() - SHORT.mean()) / pooled * (1 - 3 / (4 * 6 - 1)), rel=1e-3)
    assert cohen_dz(np.full(3, 0.01)) is None
    assert hedges_g(np.full(3, 0.1), np.full(2, 0.2)) is None


def test_one_seed_over_images_is_mcnemars_exact_test() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.random((1, 2000)) < 0.7
    variant = np.where(rng.random((1, 2000)) < 0.1, rng.random((1, 2000)) < 0.8, baseline)
    images = over_images(variant, baseline)

    gained, lost = int((variant & ~baseline).sum()), int((baseline & ~variant).sum())
    assert images.num_images == 2000
    assert images.mean == pytest.approx((gained - lost) / 2000)
    assert images.p == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)


def test_the_interval_over_images_is_scipys_bootstrap() -> None:
    rng = np.random.default_rng(1)
    variant, baseline = rng.random((3, 1000)) < 0.72, rng.random((2, 1000)) < 0.7
    images = over_images(variant, baseline)

    differences = variant.mean(axis=0) - baseline.mean(axis=0)
    expected = stats.bootstrap((differences,), np.mean, method="percentile", rng=2, batch=1000).confidence_interval
    assert images.interval == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert images.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_several_seeds_over_images_agree_with_mcnemars_large_sample_test_where_both_apply() -> None:
    rng = np.random.default_rng(3)
    baseline = rng.random((1, 5000)) < 0.7
    variant = np.where(rng.random((1, 5000)) < 0.1, rng.random((1, 5000)) < 0.71, baseline)
    once, twice = over_images(variant, baseline), over_images(variant.repeat(2, 0), baseline.repeat(2, 0))

    discordant = [[0, (variant & ~baseline).sum()], [(baseline & ~variant).sum(), 0]]
    assert twice.p == pytest.approx(mcnemar(discordant, exact=False, correction=False).pvalue, rel=0.05)
    assert twice.interval == once.interval


def test_networks_right_on_the_same_images_have_no_interval_over_images() -> None:
    same = np.random.default_rng(0).random((1, 500)) < 0.5
    assert over_images(same, same) == (500, 0.0, None, 1.0)
    assert over_images(same.repeat(2, 0), same.repeat(2, 0)) == (500, 0.0, None, None)


def test_one_seed_against_several_over_images_is_a_t_test() -> None:
    rng = np.random.default_rng(4)
    one, three = rng.random((1, 500)) < 0.72, rng.random((3, 500)) < 0.7
    for variant, baseline in ((one, three), (three, one)):
        differences = variant.mean(axis=0) - baseline.mean(axis=0)
        assert over_images(variant, baseline).p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_a_network_that_is_right_wherever_the_other_is_has_an_interval_over_images() -> None:
    images = np.arange(500)[None]
    baseline = images % 2 == 0
    found = over_images(baseline | (images % 5 == 0), baseline)
    assert found.mean == pytest.approx(0.1)
    assert found.interval is not None and 0 < found.interval[0] < 0.1 < found.interval[1]
