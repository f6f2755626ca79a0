"""The rule on simulated studies of known truth: the family-wise error, and the coverage of the intervals."""

import gc
import math
from typing import NamedTuple

import numpy as np
import pytest

from ablation.analysis.differences import Difference, FloatArray, one_sample, two_samples
from ablation.analysis.verdicts import Verdict, decide, detectable_distance

NUM_STUDIES = 2000
DESIGNS = [("paired", 2), ("paired", 3), ("paired", 5), ("unpaired", 3), ("unpaired", 5), ("3 and 8 others", 3)]


class Family(NamedTuple):
    """True differences of the comparisons of a family, and the ranges claimed."""

    truth: FloatArray
    low: FloatArray
    high: FloatArray

    def false(self, verdicts: list[Verdict]) -> bool:
        """Whether any verdict is false. Higher and lower claims do not hold at a difference of zero."""
        holds = (self.low <= self.truth) & (self.truth <= self.high) & ((self.truth != 0) | np.isfinite(self.high))
        wrong = {True: "contradicted", False: "supported"}
        return any(verdict == wrong[bool(held)] for verdict, held in zip(verdicts, holds, strict=True))


NULL = Family(np.zeros(6), np.zeros(6), np.full(6, math.inf))
ALONE = Family(np.zeros(1), np.zeros(1), np.full(1, math.inf))
MIXED = Family(  # better, none, worse, equal, at the margin, not equal, the figure, not the figure
    truth=np.array([0.03, 0.0, -0.02, 0.002, 0.01, 0.013, 0.16, 0.11]),
    low=np.array([0.0, 0.0, 0.0, -0.01, -0.01, -0.01, 0.1332, 0.1332]),
    high=np.array([math.inf, math.inf, math.inf, 0.01, 0.01, 0.01, 0.1932, 0.1932]),
)
FAMILIES = {"null": NULL, "alone": ALONE, "mixed": MIXED}


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # statsmodels' multipletests collects garbage at each call: 80 ms


def simulate(
    truth: FloatArray, design: str, num_seeds: int, sd: float = 0.005, num_images: int | None = None, floor: bool = True
) -> Difference:
    """Differences [studies, comparisons] of variants against one baseline of accuracy 0.7.

    Half of the variance is the seed's, shared by all variants of a paired design. The variants' standard deviations
    differ. In the design "3 and 8 others", the baseline has eight seeds, none of which is a variant's.
    """
    rng = np.random.default_rng([num_seeds, len(truth), design != "paired"])

    def runs(num_variants: int, of_seed: FloatArray) -> FloatArray:
        own = rng.normal(size=(NUM_STUDIES, num_variants, of_seed.shape[-1]))
        return sd * (math.sqrt(0.5) * own + math.sqrt(0.5) * of_seed)

    def of_seeds(number: int) -> FloatArray:
        return rng.normal(size=(NUM_STUDIES, 1, number))

    shared = of_seeds(8 if design == "3 and 8 others" else num_seeds)
    baseline = 0.7 + runs(1, shared)
    scale = np.resize([1.0, 2.0, 0.5], len(truth))[:, None]
    own = shared if design == "paired" else of_seeds(num_seeds)
    variants = 0.7 + truth[:, None] + scale * runs(len(truth), own)
    resolution = 0.0
    if num_images is not None:
        variants, baseline = (np.round(values * num_images) / num_images for values in (variants, baseline))
        resolution = 1 / num_images if floor else 1e-9
    if design == "paired":
        return one_sample(variants - baseline, resolution)
    baselines = np.broadcast_to(baseline, (*variants.shape[:-1], baseline.shape[-1]))
    return two_samples(variants, baselines, resolution)


def verdicts_of(differences: Difference, family: Family) -> list[list[Verdict]]:
    return [
        decide(Difference(*(values[i] for values in differences)), family.low, family.high).verdicts
        for i in range(NUM_STUDIES)
    ]


def false_rate(differences: Difference, family: Family) -> float:
    """Family-wise error rate: the fraction of studies with at least one false verdict."""
    return float(np.mean([family.false(verdicts) for verdicts in verdicts_of(differences, family)]))


@pytest.mark.parametrize("design, num_seeds", DESIGNS)
@pytest.mark.parametrize("name", FAMILIES)
def test_under_5_percent_of_studies_hold_a_false_verdict(name: str, design: str, num_seeds: int) -> None:
    family = FAMILIES[name]
    assert false_rate(simulate(family.truth, design, num_seeds), family) < 0.05


@pytest.mark.parametrize("design, num_seeds", DESIGNS)
def test_the_95_percent_intervals_cover_as_much_and_those_of_independent_samples_more(
    design: str, num_seeds: int
) -> None:
    low, high = simulate(MIXED.truth, design, num_seeds).interval()
    covered = np.mean((low <= MIXED.truth) & (MIXED.truth <= high))
    assert 0.94 <= covered <= (0.96 if design == "paired" else 0.99)


def test_without_any_difference_a_study_reaches_a_verdict_of_either_kind_once_in_twenty() -> None:
    reached = [
        any(verdict != "undecided" for verdict in verdicts)
        for design, num_seeds in DESIGNS
        for verdicts in verdicts_of(simulate(NULL.truth, design, num_seeds), NULL)
    ]
    assert np.mean(reached) < 0.05


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_few_images_give_no_false_verdicts_as_a_spread_counts_as_one_image_at_least(num_seeds: int) -> None:
    def false(floor: bool) -> float:
        return false_rate(simulate(NULL.truth, "paired", num_seeds, num_images=100, floor=floor), NULL)

    assert false(floor=True) < 0.05
    if num_seeds == 2:
        assert false(floor=False) > 0.1  # two seeds that agree by chance


def test_a_clear_difference_is_found_and_an_equal_one_takes_more_seeds() -> None:
    found = {
        num_seeds: np.array(verdicts_of(simulate(MIXED.truth, "paired", num_seeds), MIXED)) for num_seeds in (3, 5, 10)
    }
    assert np.mean(found[5][:, 0] == "supported") > 0.95
    assert np.mean(found[5][:, 2] == "contradicted") > 0.95
    equal = [float(np.mean(found[num_seeds][:, 3] == "supported")) for num_seeds in (3, 5, 10)]
    assert equal == sorted(equal)
    assert equal[0] < 0.5 < 0.9 < equal[2]


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_the_detectable_difference_is_found_four_times_in_five(num_seeds: int) -> None:
    sd = 0.005  # of a paired difference, too: half of both variances is the seed's and cancels
    detectable = detectable_distance(sd / math.sqrt(num_seeds), num_seeds - 1.0, 0.05)
    family = ALONE._replace(truth=np.array([detectable]))

    found = verdicts_of(simulate(family.truth, "paired", num_seeds, sd), family)
    assert np.mean([verdict == "supported" for (verdict,) in found]) == pytest.approx(0.8, abs=0.03)
