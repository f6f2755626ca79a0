"""A study with known answers, compared."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from ablation.analysis.comparisons import Comparison, compare
from ablation.analysis.params import ComparisonParams

BASELINE = [0.700, 0.704, 0.698, 0.703, 0.701]
VAL = {  # variant -> val accuracy by seed
    "baseline": BASELINE,
    "better": [0.731, 0.733, 0.729, 0.736, 0.729],
    "same": [0.702, 0.703, 0.697, 0.705, 0.700],
    "worse": [0.681, 0.684, 0.676, 0.682, 0.680],
    "diverged": [0.1, 0.1, 0.1, 0.1, 0.1],
    "unstable": [0.72, 0.1, 0.72, 0.72, 0.1],
    "single": [0.74],
}
DIVERGED = {"diverged": {0, 1, 2, 3, 4}, "unstable": {1, 4}}
NUM_IMAGES = {"train": 45_000, "val": 5000, "test": 10_000}
EXPECTED = {
    "clear": "supported",
    "null": "undecided",
    "reversed": "contradicted",
    "diverged": "supported",
    "unstable": "undecided",
    "single": "undecided",
}


def params(**values: Any) -> ComparisonParams:
    common = {"title": "a title", "family": "recipe", "metric": "val_accuracy", "baseline": "baseline"}
    return ComparisonParams.model_validate(common | {"claim": {"name": "higher", "settings": {}}} | values)


COMPARISONS = {
    "clear": params(variant="better"),
    "null": params(variant="same"),
    "reversed": params(variant="worse"),
    "diverged": params(
        variant="diverged",
        baseline=None,
        claim={"name": "number", "value": 0.1028, "tolerance": 0.02, "settings": {"epochs": 30}},
        family="lr",
    ),
    "unstable": params(variant="unstable", claim={"name": "lower", "settings": {}}, family="lr"),
    "single": params(variant="single"),
    "elsewhere": params(variant="another"),
}


def runs_of(val: dict[str, list[float]]) -> pd.DataFrame:
    """In reverse order: rows must be matched by seed."""
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "val_accuracy": accuracy,
            "first_batch_loss": 2.30 + seed / 1000,
            "diverged_epoch": 3 if seed in DIVERGED.get(variant, ()) else None,
        }
        for variant, accuracies in val.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    return pd.DataFrame(rows[::-1]).astype({"diverged_epoch": "Int64"})


def correct_of(val: dict[str, list[float]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.random((len(values), 10_000)) < np.array(values)[:, None] for name, values in val.items()}


@pytest.fixture(scope="module")
def rows() -> dict[str, Comparison]:
    return {row.name: row for row in compare(COMPARISONS, runs_of(VAL), correct_of(VAL), NUM_IMAGES, {}).rows}


def test_each_verdict_is_the_known_answer(rows: dict[str, Comparison]) -> None:
    assert {name: row.verdict for name, row in rows.items()} == EXPECTED


def test_counts_are_decided_as_they_stand_even_with_one_seed() -> None:
    runs = runs_of({"baseline": BASELINE, "single": [0.74]})
    runs["parameters"] = runs["variant"].map({"baseline": 272_474, "single": 50_000})
    lower, higher = ({"metric": "parameters", "claim": {"name": name, "settings": {}}} for name in ("lower", "higher"))
    declared = {
        "fewer": params(variant="single", **lower),
        "more": params(variant="single", **higher),
        "itself": params(
            variant="single",
            metric="parameters",
            baseline=None,
            claim={"name": "at_most", "value": 50_001.0, "settings": {}},
        ),
    }
    found = compare(declared, runs, {}, {}, {}).rows
    assert [row.answer for row in found] == ["supported", "contradicted", "supported"]
    assert [(row.design, row.difference, row.p, row.note) for row in found] == [
        *[("count", -222_474, None, "")] * 2,
        ("count", -1, None, ""),
    ]


def test_a_count_may_be_at_its_bound_and_is_neither_higher_nor_lower_than_itself() -> None:
    runs = runs_of({"baseline": BASELINE, "single": [0.74]}).assign(parameters=50_000)
    claims: dict[str, dict[str, Any]] = {
        "at most": {"name": "at_most", "value": 0.0, "settings": {}},
        "number": {"name": "number", "value": 5.0, "tolerance": 5.0, "settings": {}},
        "higher": {"name": "higher", "settings": {}},
        "lower": {"name": "lower", "settings": {}},
    }
    declared = {name: params(variant="single", metric="parameters", claim=claim) for name, claim in claims.items()}
    answers = {row.name: row.answer for row in compare(declared, runs, {}, {}, {}).rows}
    assert answers == dict(zip(claims, ["supported"] * 2 + ["contradicted"] * 2, strict=True))


def test_holms_correction_is_over_the_comparisons_of_the_family_that_several_seeds_test(
    rows: dict[str, Comparison],
) -> None:
    p = [stats.ttest_rel(VAL[name], BASELINE).pvalue for name in ("worse", "better", "same")]
    assert p == sorted(p)

    corrected = [rows[name].p_holm for name in ("reversed", "clear", "null")]
    assert corrected == pytest.approx([3 * p[0], max(3 * p[0], 2 * p[1]), p[2]])


def test_an_undecided_comparison_tells_how_many_seeds_it_needs(rows: dict[str, Comparison]) -> None:
    row = rows["null"]
    assert row.effect_size is not None and row.detectable is not None
    needed = math.ceil(TTestPower().solve_power(effect_size=row.effect_size, alpha=0.05, power=0.8))

    assert row.seeds_needed == needed > 5
    assert row.answer == f"undecided (needs about {needed} seeds)"
    spread = np.std(np.subtract(VAL["same"], BASELINE), ddof=1)
    detectable = TTestPower().solve_power(nobs=5, alpha=0.05 / 3, power=0.8) * spread  # of a family of three
    assert row.detectable == pytest.approx(detectable, rel=1e-4)
    assert row.detectable > row.difference


def test_seeds_are_planned_for_the_first_of_the_undecided_that_holms_correction_looks_at() -> None:
    values = {"baseline": [0.0] * 4, "a": [0.010, 0.002, 0.011, 0.001], "b": [0.011, 0.002, 0.012, 0.0005]}
    values |= {"clear": [0.1, 0.11, 0.12, 0.13]}
    declared = {name: params(variant=name) for name in ("a", "b", "clear")}
    rows = compare(declared, runs_of(values), {}, NUM_IMAGES, {}).rows

    assert [row.verdict for row in rows] == ["undecided", "undecided", "supported"]
    for row in rows[:2]:
        assert row.p is not None and row.p > 0.05 / 2  # Holm's level for the first of the two left
        assert row.effect_size is not None
        needed = TTestPower().solve_power(effect_size=row.effect_size, alpha=0.05 / 2, power=0.8)
        assert row.seeds_needed == math.ceil(needed)


def test_a_difference_of_nothing_needs_more_seeds_than_anyone_has() -> None:
    val = {"baseline": [0.70, 0.71, 0.72], "same": [0.71, 0.70, 0.72]}
    (row,) = compare({"null": COMPARISONS["null"]}, runs_of(val), {}, NUM_IMAGES, {}).rows
    assert row.answer == "undecided (needs more than 1,000 seeds)"


def test_runs_that_diverged_count_and_are_told(rows: dict[str, Comparison]) -> None:
    row = rows["diverged"]
    assert (row.design, row.baseline, row.baseline_mean, row.num_baseline_seeds) == ("one-sample", None, None, None)
    assert row.difference == pytest.approx(0.1 - 0.1028)
    assert (row.claim_low, row.claim_high) == (-0.02, 0.02)
    assert row.num_diverged == 5
    assert row.note == "5 of 5 runs diverged; all seeds agree: their standard deviation is taken as one image"
    assert row.effect_size is None
    assert row.low is not None and row.high is not None
    assert row.high - row.low == pytest.approx(2 * 2.776445 / 5000 / math.sqrt(5))

    unstable = rows["unstable"]
    assert unstable.variant_mean == pytest.approx((3 * 0.72 + 2 * 0.1) / 5)
    assert (unstable.num_diverged, unstable.note) == (2, "2 of 10 runs diverged")


def test_one_seed_has_no_interval_and_no_verdict_but_its_images_are_compared(rows: dict[str, Comparison]) -> None:
    row = rows["single"]
    assert (row.low, row.high, row.p, row.p_holm, row.effect_size, row.detectable) == (None,) * 6
    assert (row.num_seeds, row.num_baseline_seeds, row.design) == (1, 5, "unpaired")
    assert row.answer == "undecided (needs at least 2 seeds)"
    assert row.note == "one seed: the spread over seeds is unknown"
    assert row.test_images == 10_000
    assert row.test_low is not None and row.test_difference is not None and row.test_high is not None
    assert 0 < row.test_low < row.test_difference < row.test_high
    assert row.test_p is not None and row.test_p < 1e-6


def test_only_accuracies_are_compared_on_the_test_images() -> None:
    runs = runs_of(VAL).assign(gap=0.1, test_accuracy=0.5)
    correct = dict.fromkeys(VAL, np.ones((5, 10), dtype=bool))
    metrics = ("val_accuracy", "test_accuracy", "gap")
    declared = {metric: params(variant="better", metric=metric) for metric in metrics}
    rows = compare(declared, runs, correct, NUM_IMAGES, {}).rows
    assert [row.test_images for row in rows] == [10, 10, None]


def test_a_number_of_other_data_has_its_difference_and_no_verdict_and_leaves_the_family_alone() -> None:
    number = {"name": "number", "value": 0.75, "tolerance": 0.01, "settings": {"epochs": 30}}
    declared = {"clear": params(variant="better"), "number": params(variant="better", baseline=None, claim=number)}
    reasons = {"number": "8 epochs, not 30"}
    clear, row = compare(declared, runs_of(VAL), {}, NUM_IMAGES, reasons).rows

    assert (row.answer, row.note) == ("not comparable", "8 epochs, not 30")
    assert (row.verdict, row.p, row.p_holm, row.detectable, row.seeds_needed) == ("not comparable", *[None] * 4)
    expected = stats.ttest_1samp(VAL["better"], 0.75).confidence_interval()
    assert (row.low, row.high) == pytest.approx((expected.low - 0.75, expected.high - 0.75))
    assert clear.p_holm == clear.p


def test_what_is_left_out_is_listed_with_the_reason() -> None:
    runs = runs_of(VAL)
    runs.loc[(runs["variant"] == "same") & (runs["seed"] == 3), "val_accuracy"] = math.nan

    compared = compare(COMPARISONS, runs, {}, NUM_IMAGES, {})
    assert compared.not_run == {
        "null": "same has no validation accuracy for seed 3",
        "elsewhere": "another is not in the study",
    }
    assert [row.name for row in compared.rows] == ["clear", "reversed", "diverged", "unstable", "single"]


def test_rows_are_json_without_nan(rows: dict[str, Comparison]) -> None:
    records = [row.record() for row in rows.values()]
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    table = pd.DataFrame(records)
    assert table["answer"].tolist() == [row.answer for row in rows.values()]


def test_a_measure_that_a_diverged_run_does_not_have_is_listed() -> None:
    runs = runs_of(VAL).assign(instability=lambda runs: runs["val_accuracy"].where(runs["diverged_epoch"].isna()))
    compared = compare({"a": params(variant="unstable", metric="instability")}, runs, {}, NUM_IMAGES, {})
    assert compared.not_run == {"a": "unstable has no standard deviation of late batch losses for seeds 1, 4, diverged"}


def test_seeds_are_planned_beyond_those_of_the_variant_with_fewer() -> None:
    """The baseline has enough already."""
    runs = runs_of({"baseline": [*BASELINE] * 3, "few": [0.704, 0.712]})
    (row,) = compare({"a": params(variant="few")}, runs, {}, NUM_IMAGES, {}).rows
    assert row.verdict == "undecided" and row.seeds_needed is not None and 2 < row.seeds_needed < 15


def test_a_baseline_of_one_seed_gives_no_verdict_either() -> None:
    (row,) = compare({"a": params(variant="better", baseline="single")}, runs_of(VAL), {}, NUM_IMAGES, {}).rows
    assert row.answer == "undecided (needs at least 2 seeds)"
    assert row.note == "one seed: the spread over seeds is unknown"


def test_a_reason_is_divergence_only_where_all_of_the_missing_diverged() -> None:
    runs = runs_of(VAL).assign(instability=1.0)
    runs.loc[(runs["variant"] == "unstable") & runs["seed"].isin([1, 3]), "instability"] = math.nan  # seed 1 diverged
    compared = compare({"a": params(variant="unstable", metric="instability")}, runs, {}, NUM_IMAGES, {})
    assert compared.not_run == {"a": "unstable has no standard deviation of late batch losses for seeds 1, 3"}
