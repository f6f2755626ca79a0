"""How far two variants are apart: over seeds (what training again would give) and over test images."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.meta_analysis import effectsize_smd

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000


class Difference(NamedTuple):
    """Differences of means over seeds, as arrays of one shape; standard errors are positive."""

    mean: FloatArray
    standard_error: FloatArray
    df: FloatArray  # degrees of freedom of Student's t
    spread: FloatArray  # standard error times sqrt(n), to plan n seeds of each variant

    def interval(self) -> tuple[FloatArray, FloatArray]:
        """The 95 % confidence interval."""
        low, high = stats.t.interval(CONFIDENCE, self.df, self.mean, self.standard_error)
        return low, high


def one_sample(values: FloatArray, resolution: float) -> Difference:
    """The mean of `values` [..., seeds], by Student's one-sample t interval.

    `resolution` is a floor for the sample standard deviation: one image of an accuracy, 0 for a continuous measure.
    A few seeds may agree to the image by chance, which is no evidence of zero spread.
    """
    num_seeds = values.shape[-1]
    spread = np.maximum(np.std(values, axis=-1, ddof=1), resolution)
    df = np.full(spread.shape, num_seeds - 1.0)
    return Difference(np.mean(values, axis=-1), spread / np.sqrt(num_seeds), df, spread)


def two_samples(variant: FloatArray, baseline: FloatArray, resolution: float) -> Difference:
    """The difference of means of independent samples, [..., seeds] and [..., other seeds], by Welch's statistic.

    Variances differ (a network close to divergence has ten times the standard deviation), so they are not pooled. The
    degrees of freedom are those of the smaller sample: Welch's own approximation is too liberal for three seeds against
    eight at the levels of Holm's correction, while this one errs on the wide side (Mickey and Brown 1966).
    `resolution` as for `one_sample`.
    """
    n1, n2 = variant.shape[-1], baseline.shape[-1]
    first, second = (np.maximum(np.var(values, axis=-1, ddof=1), resolution**2) for values in (variant, baseline))
    return Difference(
        np.mean(variant, axis=-1) - np.mean(baseline, axis=-1),
        np.sqrt(first / n1 + second / n2),
        np.full(first.shape, min(n1, n2) - 1.0),
        np.sqrt(first + second),
    )


def mean_interval(values: FloatArray, resolution: float) -> tuple[float, float] | None:
    """The 95 % confidence interval of a mean over seeds, by `one_sample`; None with one seed.

    resolution: above 0.
    """
    if len(values) < 2:
        return None
    low, high = one_sample(values, resolution).interval()
    return float(low), float(high)


def alike(values: FloatArray) -> bool:
    """Whether `values` [seeds] are equal up to rounding, as equal differences of accuracies are."""
    return bool(np.ptp(values) <= 1e-12 * np.max(np.abs(values), initial=1.0))


def cohen_dz(differences: FloatArray) -> float | None:
    """Mean over standard deviation of the per-seed differences [seeds]; None where all are equal."""
    return None if alike(differences) else float(np.mean(differences) / np.std(differences, ddof=1))


def hedges_g(variant: FloatArray, baseline: FloatArray) -> float | None:
    """Difference of means over pooled standard deviation, corrected for small samples; None where that is zero."""
    groups = (variant, baseline)
    if all(map(alike, groups)):
        return None
    (mean1, sd1, n1), (mean2, sd2, n2) = ((np.mean(v), np.std(v, ddof=1), len(v)) for v in groups)
    return float(effectsize_smd(mean1, sd1, n1, mean2, sd2, n2)[0])


class ImageDifference(NamedTuple):
    """Test accuracy of the trained networks themselves, compared image by image; says nothing about other seeds."""

    num_images: int
    mean: float
    interval: tuple[float, float] | None  # None where the difference is the same on every image
    p: float | None  # of the null hypothesis of no difference; with several seeds, None likewise


def over_images(variant: BoolArray, baseline: BoolArray) -> ImageDifference:
    """Difference in test accuracy and its uncertainty over images, from correctness [seeds, images] of each variant.

    Valid with one seed. The 95 % interval is the percentile bootstrap over images of the difference averaged over
    seeds. The p-value is that of McNemar's exact test for one seed each; with more, where that does not apply (an image
    would count several times), of a paired t-test over images.
    """
    num_images = variant.shape[-1]
    differences = np.mean(variant, axis=0) - np.mean(baseline, axis=0)
    values, counts = np.unique(differences, return_counts=True)
    interval = p = None
    if len(values) > 1:
        # Few distinct values: multinomial draws of their counts are the same bootstrap, without drawing every image.
        drawn = np.random.default_rng(0).multinomial(num_images, counts / num_images, NUM_RESAMPLES)
        low, high = np.quantile(drawn @ values / num_images, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        interval = (float(low), float(high))
    if len(variant) == len(baseline) == 1:
        only_variant, only_baseline = int(np.sum(variant & ~baseline)), int(np.sum(baseline & ~variant))
        p = float(mcnemar([[0, only_variant], [only_baseline, 0]], exact=True).pvalue)
    elif len(values) > 1:
        p = float(stats.ttest_1samp(differences, 0).pvalue)
    return ImageDifference(num_images, float(np.mean(differences)), interval, p)
