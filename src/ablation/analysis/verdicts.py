"""Each claim allows a range of differences: above zero (higher), below zero (lower), within a margin of zero (equal),
up to a value (at most), or within a tolerance of a figure reported (a number).

The difference of means over seeds has a 95 % t interval: a paired one over the seeds that both variants were trained
with, which share data order and augmentation; Welch's where they share none or one, with the degrees of freedom of the
smaller sample; and a one-sample one where a figure has no baseline.

A claim is supported when the difference lies inside its range and contradicted when it lies outside, each only if its
distance from the nearest bound of the range is significant: two-sided t-test, p < 0.05 after Holm's correction over the
comparisons of the family. The family-wise error rate, the chance of any false verdict in a family, is then at most 5 %,
provided that the number of seeds was chosen before the results were seen: adding seeds until a verdict is reached
(optional stopping) makes false verdicts more frequent.

Everything else is undecided, with the number of seeds, the same for both variants, that would decide it with 80 % power
or more if the true difference and standard deviation were those measured, at p < 0.05 / number of the family's
undecided comparisons. What was measured is uncertain itself, and so is that number: a first guess at the size of the
next study.

For speeds this holds with a reservation: the seeds of a variant train in one go, so their spread does not cover changes
of the machine's speed over time.

A number is a figure reported for particular data and settings, and another claim may be made for particular settings.
Where those of these runs differ, the difference is shown, and the verdict is not comparable; likewise where variant and
baseline differ in a setting that the claim does not name and that can change what is compared by more than rounding.

With one seed every claim on what is measured is undecided: it is about a way to train, and one run does not show how
much the next would differ. The comparison over test images beside it is then evidence on these two networks only.

Parameters, multiply-adds and bytes of activations are counted, not measured: they are the same for every seed, and
their claims are decided as they stand.

Every run with these seeds counts, including those that diverged or stayed at chance level. A run that diverged has the
accuracy of its best epoch before, or of the network as it was when it diverged in its first epoch. Where a run has no
value, such as the spread of its late losses if it diverged, or the epochs to an accuracy that it never reached, the
comparison is listed as not run.

A standard deviation smaller than the metric's smallest possible step (one image, one epoch, one unit) is replaced by
that step, even where all seeds agree. Failures too rare to occur in any of these seeds are not covered by the interval.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import ttest_power

from ablation.analysis.differences import Difference, FloatArray
from ablation.analysis.params import AtMostParams, ClaimParams, EqualParams, HigherParams, LowerParams, NumberParams

RULE = (__doc__ or "").strip()  # for the page, in paragraphs

ALPHA = 0.05
POWER = 0.8
MAX_SEEDS = 1000

Verdict = Literal["supported", "contradicted", "undecided", "not comparable"]


class Decisions(NamedTuple):
    """Decisions on one family, as arrays [comparisons]."""

    p: FloatArray  # two-sided, of the distance from the nearest bound of the claim
    p_holm: FloatArray
    verdicts: list[Verdict]


def claim_range(claim: ClaimParams, has_baseline: bool) -> tuple[float, float]:
    """Bounds of the differences that the claim allows.

    Differences are from the baseline; for a number, or without a baseline, from the figure claimed.
    """
    match claim:
        case HigherParams():
            return 0.0, math.inf
        case LowerParams():
            return -math.inf, 0.0
        case EqualParams(margin=margin):
            return -margin, margin
        case AtMostParams(value=value):
            return -math.inf, value if has_baseline else 0.0
        case NumberParams(tolerance=tolerance):
            return -tolerance, tolerance


def distances_to_clear(mean: float, low: float, high: float) -> list[float]:
    """Distances of `mean` from the bounds that decide: all finite ones if within the range, else the nearest."""
    distances = [abs(mean - bound) for bound in (low, high) if math.isfinite(bound)]
    return distances if low < mean < high else [min(distances)]


def decide(differences: Difference, low: FloatArray, high: FloatArray) -> Decisions:
    """Verdicts on the comparisons of one family, by RULE; `low` and `high` bound what each claim allows.

    For higher and lower, p is that of a t-test of no difference; within a range it is twice that of the equivalence
    test (two one-sided tests, TOST; Schuirmann 1987), which requires the 95 % interval to lie within the range.
    """
    distance = np.minimum(np.abs(differences.mean - low), np.abs(differences.mean - high))
    p = 2 * stats.t.sf(distance / differences.standard_error, differences.df)
    significant, p_holm = multipletests(p, alpha=ALPHA, method="holm")[:2]
    inside = (differences.mean > low) & (differences.mean < high)
    verdicts: list[Verdict] = [
        ("supported" if is_inside else "contradicted") if decided else "undecided"
        for is_inside, decided in zip(inside, significant, strict=True)
    ]
    return Decisions(p, p_holm, verdicts)


def power(noncentrality: FloatArray | float, df: FloatArray | float, level: float) -> FloatArray:
    """Probability that a two-sided t-test at `level` detects `noncentrality` standard errors, with the right sign."""
    # One-sided at half the level: statsmodels' two-sided power is NaN for most large effects. NaN here stands for 1.
    probability = ttest_power(np.asarray(noncentrality), 1, level / 2, df=np.asarray(df), alternative="larger")
    return np.nan_to_num(np.asarray(probability, dtype=np.float64), nan=1.0)


def detectable_distance(standard_error: float, df: float, level: float) -> float:
    """The smallest distance from one bound of a claim that is detected with 80 % power."""

    # On a log scale, from almost none to beyond what two seeds need at any level in use; statsmodels' solve_power
    # finds a wrong root for two and three seeds.
    def excess(log_noncentrality: float) -> float:
        return float(power(math.exp(log_noncentrality), df, level)) - POWER

    return standard_error * math.exp(brentq(excess, math.log(1e-2), math.log(1e6)))


def seeds_needed(distances: list[float], spread: float, num_seeds: int, level: float) -> int | None:
    """Seeds of each variant, above `num_seeds`, that detect all of `distances` with 80 % power; None above 1,000.

    spread: as in `Difference`. The probability of missing either of two bounds is at most the sum of the
    two probabilities (Bonferroni).
    """
    planned = np.arange(num_seeds + 1, MAX_SEEDS + 1, dtype=np.float64)
    noncentralities = [distance / spread * np.sqrt(planned) for distance in distances]
    missed = np.sum([1 - power(noncentrality, planned - 1, level) for noncentrality in noncentralities], axis=0)
    enough = missed <= 1 - POWER
    return int(planned[np.argmax(enough)]) if np.any(enough) else None
