"""The declared comparisons on the runs at hand: effect, uncertainty and verdict of each."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from ablation.analysis import verdicts
from ablation.analysis.comparability import compared_runs, obstacle
from ablation.analysis.differences import (
    BoolArray,
    Difference,
    FloatArray,
    alike,
    cohen_dz,
    hedges_g,
    one_sample,
    over_images,
    two_samples,
)
from ablation.analysis.metrics import METRICS
from ablation.analysis.params import AtMostParams, ComparisonParams, NumberParams

Design = Literal["paired", "unpaired", "one-sample", "count"]

BY_IMAGES = ("val_accuracy", "test_accuracy")  # also compared image by image, on the test split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One comparison. Accuracies and their differences are fractions; None where these runs cannot tell."""

    name: str
    title: str
    family: str
    metric: str
    variant: str
    baseline: str | None
    claim: Literal["higher", "lower", "equal", "at_most", "number"]
    claim_low: float | None  # bounds of the differences that the claim allows; None: no bound
    claim_high: float | None
    design: Design
    num_seeds: int  # of the variant
    num_baseline_seeds: int | None
    num_diverged: int  # of the variant's and the baseline's runs
    variant_mean: float
    baseline_mean: float | None
    difference: float  # from the baseline; for a number, or without a baseline, from the figure claimed
    low: float | None  # 95 % confidence interval over seeds
    high: float | None
    effect_size: float | None  # Cohen's d_z where paired or one-sample, else Hedges' g
    note: str  # what a reader has to know about the runs; may be empty

    verdict: verdicts.Verdict
    p: float | None = None  # see verdicts.decide
    p_holm: float | None = None
    # The smallest distance from a bound of the claim detected with 80 % power at level 0.05 / size of the family
    detectable: float | None = None
    seeds_needed: int | None = None  # where undecided; None above verdicts.MAX_SEEDS, or with one seed

    test_images: int | None = None  # on which the trained networks themselves were compared; None without a baseline
    test_difference: float | None = None
    test_low: float | None = None  # 95 % confidence interval over images
    test_high: float | None = None
    test_p: float | None = None

    @property
    def answer(self) -> str:
        """The verdict and, where undecided, what it would take."""
        if self.verdict != "undecided":
            return self.verdict
        if self.p is not None:
            needed = f"more than {verdicts.MAX_SEEDS:,}" if self.seeds_needed is None else f"about {self.seeds_needed}"
            return f"undecided (needs {needed} seeds)"
        single = 1 in (self.num_seeds, self.num_baseline_seeds)
        return "undecided (needs at least 2 seeds)" if single else "undecided (all seeds agree)"

    def record(self) -> dict[str, Any]:
        """Every field and the answer, as one row of a table."""
        return dataclasses.asdict(self) | {"answer": self.answer}


class Comparisons(NamedTuple):
    rows: list[Comparison]  # in the order declared
    not_run: dict[str, str]  # name -> why it was left out


def compare(
    comparisons: Mapping[str, ComparisonParams],
    runs: pd.DataFrame,
    correct: Mapping[str, BoolArray],
    num_images: Mapping[str, int],
    not_comparable: Mapping[str, str],
) -> Comparisons:
    """Effect, uncertainty and verdict of each comparison, over the seeds of `compared_runs`.

    `runs`: one row per variant and seed with the columns variant, seed, diverged_epoch (null where the run did not
    diverge) and every metric compared. `correct`: variant -> bool [seeds, test images], whether the prediction was
    right; a variant may be absent. `num_images`: split -> number of images. `not_comparable`: from
    comparability.not_comparable.

    Left out, with the reason: comparisons whose variant or baseline is not in `runs` or has a run without a value (the
    mean of the other runs would hide it), and of speeds measured under different conditions (MEASURED_ON).
    """
    rows: dict[str, Comparison] = {}
    not_run: dict[str, str] = {}
    families: dict[str, dict[str, Difference]] = {}
    for name, params in comparisons.items():
        own, left_out = compared_runs(params, runs)
        reason = obstacle(params, own)
        if reason is not None:
            not_run[name] = reason
            continue
        metric = METRICS[params.metric]
        resolution = metric.step if metric.split is None else 1 / num_images[metric.split]
        rows[name], difference = _measure(name, params, own, left_out, resolution, not_comparable.get(name, ""))
        by_images = params.metric in BY_IMAGES and params.variant in correct
        if by_images and params.baseline is not None and params.baseline in correct:
            rows[name] = _with_images(rows[name], correct[params.variant], correct[params.baseline])
        if difference is not None and rows[name].verdict != "not comparable":
            families.setdefault(params.family, {})[name] = difference
    for family in families.values():
        rows |= _decided({name: rows[name] for name in family}, comparisons, family)
    return Comparisons(list(rows.values()), not_run)


def _measure(
    name: str, params: ComparisonParams, runs: pd.DataFrame, left_out: str, resolution: float, not_comparable: str
) -> tuple[Comparison, Difference | None]:
    """The comparison without what `_decided` adds, and its difference where several seeds give one."""
    claim = params.claim
    values = _values(runs, params.variant, params.metric)
    others = None if params.baseline is None else _values(runs, params.baseline, params.metric)
    figure = 0.0
    if isinstance(claim, NumberParams) or (isinstance(claim, AtMostParams) and others is None):
        figure = claim.value
    design, samples, difference, effect_size = _estimate(values - figure, others, resolution)
    change = float(values.mean() - figure - (0.0 if others is None else others.mean()))
    low, high = verdicts.claim_range(claim, others is not None)
    verdict: verdicts.Verdict = "undecided"
    if METRICS[params.metric].is_count:
        assert all(np.ptp(sample) == 0 for sample in samples)
        allowed = low <= change <= high and (change != 0 or claim.name not in ("higher", "lower"))
        design, verdict = "count", "supported" if allowed else "contradicted"
    diverged = runs["diverged_epoch"].notna()
    notes = [not_comparable]
    if design != "count":
        notes += [left_out, *_notes(samples, difference, diverged, METRICS[params.metric].step_name)]
    interval_low, interval_high = (None, None) if difference is None else map(float, difference.interval())
    row = Comparison(
        name=name,
        **params.model_dump(exclude={"claim"}),
        claim=claim.name,
        claim_low=low if math.isfinite(low) else None,
        claim_high=high if math.isfinite(high) else None,
        design=design,
        num_seeds=len(values),
        num_baseline_seeds=None if others is None else len(others),
        num_diverged=int(diverged.sum()),
        variant_mean=float(values.mean()),
        baseline_mean=None if others is None else float(others.mean()),
        difference=change,
        low=interval_low,
        high=interval_high,
        effect_size=effect_size,
        note="; ".join(filter(None, notes)),
        verdict="not comparable" if not_comparable else verdict,
    )
    return row, difference


def _estimate(
    values: "pd.Series[float]", others: "pd.Series[float] | None", resolution: float
) -> tuple[Design, list[FloatArray], Difference | None, float | None]:
    """The design, its samples, the difference (None where it has no standard error), and the effect size."""
    design: Design
    difference = effect_size = None
    if others is None or values.index.equals(others.index):
        design, of_seeds = ("one-sample", values) if others is None else ("paired", values - others)
        sample = np.asarray(of_seeds, dtype=np.float64)
        samples = [sample]
        if len(sample) > 1:
            difference, effect_size = one_sample(sample, resolution), cohen_dz(sample)
    else:
        design = "unpaired"
        first, second = samples = [np.asarray(series, dtype=np.float64) for series in (values, others)]
        if min(len(first), len(second)) > 1:
            difference, effect_size = two_samples(first, second, resolution), hedges_g(first, second)
    if resolution == 0 and all(map(alike, samples)):
        difference = None  # no spread, and no resolution to stand in for it
    return design, samples, difference, effect_size


def _notes(
    samples: list[FloatArray], difference: Difference | None, diverged: "pd.Series[bool]", step_name: str
) -> list[str]:
    notes = [f"{diverged.sum()} of {len(diverged)} runs diverged"] if diverged.any() else []
    if min(map(len, samples)) == 1:
        notes.append("one seed: the spread over seeds is unknown")
    elif all(map(alike, samples)):
        spread = "unknown" if difference is None else f"taken as {step_name}"
        notes.append(f"all seeds agree: their standard deviation is {spread}")
    return notes


def _values(runs: pd.DataFrame, variant: str, metric: str) -> "pd.Series[float]":
    """The metric, indexed by seed in increasing order."""
    return runs[runs["variant"] == variant].set_index("seed")[metric].astype(np.float64).sort_index()


def _with_images(row: Comparison, variant: BoolArray, baseline: BoolArray) -> Comparison:
    images = over_images(variant, baseline)
    low, high = images.interval if images.interval is not None else (None, None)
    return dataclasses.replace(
        row,
        test_images=images.num_images,
        test_difference=images.mean,
        test_low=low,
        test_high=high,
        test_p=images.p,
    )


def _decided(
    rows: Mapping[str, Comparison], comparisons: Mapping[str, ComparisonParams], family: Mapping[str, Difference]
) -> dict[str, Comparison]:
    """The rows of one family, each of several seeds, as decided with Holm's correction over the family."""
    together = Difference(*(np.array(values) for values in zip(*family.values(), strict=True)))
    ranges = [verdicts.claim_range(comparisons[name].claim, row.baseline is not None) for name, row in rows.items()]
    lows, highs = np.array(ranges).T
    decisions = verdicts.decide(together, lows, highs)
    first_level = verdicts.ALPHA / len(rows)  # Holm's level for the smallest p of all; below, of those undecided
    next_level = verdicts.ALPHA / max(decisions.verdicts.count("undecided"), 1)
    decided = {}
    for i, (name, row) in enumerate(rows.items()):
        error, df = float(together.standard_error[i]), float(together.df[i])
        num_seeds = min(row.num_seeds, row.num_baseline_seeds or row.num_seeds)
        needed = None
        if decisions.verdicts[i] == "undecided":
            distances = verdicts.distances_to_clear(float(together.mean[i]), *ranges[i])
            needed = verdicts.seeds_needed(distances, float(together.spread[i]), num_seeds, next_level)
        decided[name] = dataclasses.replace(
            row,
            p=float(decisions.p[i]),
            p_holm=float(decisions.p_holm[i]),
            detectable=verdicts.detectable_distance(error, df, first_level),
            verdict=decisions.verdicts[i],
            seeds_needed=needed,
        )
    return decided
