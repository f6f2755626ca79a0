"""How far two variants are apart: over seeds (what another training would give) and over test images."""

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
    """Differences of means over seeds, each array of one shape; a standard error is above 0."""

    mean: FloatArray
    standard_error: FloatArray
    df: FloatArray  # degrees of freedom of Student's t
    spread: FloatArray  # standard deviation of the difference between one seed of each: over sqrt(n) for n of each
    df_per_seed: FloatArray  # degrees of freedom with n seeds of each, over n - 1

    def interval(self) -> tuple[FloatArray, FloatArray]:
        """The 95 % confidence interval."""
        low, high = stats.t.interval(CONFIDENCE, self.df, self.mean, self.standard_error)
        return low, high


def paired(differences: FloatArray, resolution: float) -> Difference:
    """The mean of per-seed differences [..., seeds], by the paired (one-sample) t interval.

    Runs with the same seed share the order of the images and the random numbers of the augmentation, so a seed is a
    pair, and what its data stream adds to both runs cancels. The interval is exact however much that is; where it is
    little, pairing costs degrees of freedom (n - 1 against up to 2n - 2) and the interval is wider than Welch's.

    `resolution` is the least standard deviation that counts: one image of an accuracy, 0 for a measure without steps.
    A few seeds agree to the image by chance, which is no evidence of a spread of zero.
    """
    num_seeds = differences.shape[-1]
    spread = np.maximum(np.std(differences, axis=-1, ddof=1), resolution)
    df = np.full(spread.shape, num_seeds - 1.0)
    mean, one = np.mean(differences, axis=-1), np.ones(spread.shape)
    return Difference(mean, spread / np.sqrt(num_seeds), df, spread, one)


def welch(variant: FloatArray, baseline: FloatArray, resolution: float) -> Difference:
    """The difference of means of [..., seeds] and [..., other seeds], by Welch's interval for unequal variances.

    For variants that were not trained with the same seeds. Variances differ (a network close to divergence spreads ten
    times as wide), so they are not pooled. With two seeds each it covers 97 to 98 %. `resolution` as for `paired`.
    """

    def squared(first: FloatArray, second: FloatArray, n1: int, n2: int) -> tuple[FloatArray, FloatArray]:
        """The squared standard error of n1 and n2 seeds with these variances, and its degrees of freedom."""
        error = first / n1 + second / n2
        return error, error**2 / ((first / n1) ** 2 / (n1 - 1) + (second / n2) ** 2 / (n2 - 1))

    groups = (variant, baseline)
    first, second = (np.maximum(np.std(values, axis=-1, ddof=1), resolution) ** 2 for values in groups)
    error, df = squared(first, second, variant.shape[-1], baseline.shape[-1])
    _, df_of_two = squared(first, second, 2, 2)
    mean = np.mean(variant, axis=-1) - np.mean(baseline, axis=-1)
    return Difference(mean, np.sqrt(error), df, np.sqrt(first + second), df_of_two)


def mean_interval(values: FloatArray, resolution: float) -> tuple[float, float] | None:
    """The 95 % confidence interval of a mean over seeds, as for `paired`; None with one seed or without any spread."""
    if len(values) < 2 or (resolution == 0 and np.ptp(values) == 0):
        return None
    low, high = paired(values, resolution).interval()
    return float(low), float(high)


def cohen_dz(differences: FloatArray) -> float | None:
    """Mean over standard deviation of the per-seed differences [seeds]; None where all are equal."""
    spread = float(np.std(differences, ddof=1))
    return float(np.mean(differences)) / spread if spread > 0 else None


def hedges_g(variant: FloatArray, baseline: FloatArray) -> float | None:
    """Difference of means over pooled standard deviation, corrected for few seeds; None where the spread is zero."""
    groups = (variant, baseline)
    if all(np.ptp(values) == 0 for values in groups):
        return None
    (mean1, sd1, n1), (mean2, sd2, n2) = ((np.mean(v), np.std(v, ddof=1), len(v)) for v in groups)
    return float(effectsize_smd(mean1, sd1, n1, mean2, sd2, n2)[0])


class ImageDifference(NamedTuple):
    """Test accuracy of the trained networks themselves, compared image by image; says nothing about other seeds."""

    num_images: int
    mean: float
    interval: tuple[float, float] | None  # None where they differ alike on every image
    p: float | None  # of no difference; None likewise with several seeds


def over_images(variant: BoolArray, baseline: BoolArray) -> ImageDifference:
    """The difference over other test images of the same kind, from correctness [seeds, images] of each variant.

    Valid with one seed. The 95 % interval is the percentile bootstrap over images of the difference averaged over
    seeds. The p-value is McNemar's exact one for one seed each; with more, where McNemar's does not apply (an image
    would count several times), that of a t-test over images.
    """
    num_images = variant.shape[-1]
    differences = np.mean(variant, axis=0) - np.mean(baseline, axis=0)
    values, counts = np.unique(differences, return_counts=True)
    interval = p = None
    if len(values) > 1:
        # Few distinct values: drawing how often each occurs is the same bootstrap, without drawing every image.
        drawn = np.random.default_rng(0).multinomial(num_images, counts / num_images, NUM_RESAMPLES)
        low, high = np.quantile(drawn @ values / num_images, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        interval = (float(low), float(high))
    if len(variant) == len(baseline) == 1:
        only_variant, only_baseline = int(np.sum(variant & ~baseline)), int(np.sum(baseline & ~variant))
        p = float(mcnemar([[0, only_variant], [only_baseline, 0]], exact=True).pvalue)
    elif len(values) > 1:
        p = float(stats.ttest_1samp(differences, 0).pvalue)
    return ImageDifference(num_images, float(np.mean(differences)), interval, p)
