"""Which runs a comparison is of, and where speeds do not compare."""

import math
from typing import Any

import pytest

from ablation.analysis.comparisons import compare
from tests.analysis.test_comparisons import NUM_IMAGES, VAL, params, runs_of

SPEEDS = "speeds measured under different conditions are not comparable"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ""),
        ({"device": "a GPU"}, "device a GPU and cpu (a model)"),
        ({"device": "cpu (another)"}, "device cpu (a model) and cpu (another)"),
        ({"num_threads": 2, "concurrent_seeds": 2}, "num_threads 1 and 2; concurrent_seeds 1 and 2"),
        ({"torch": "2.11.0", "gcc": None}, "torch 2.11.0 and 2.14.1; gcc 12.2.0 and none"),
    ],
)
def test_speeds_are_compared_where_they_were_measured_alike(changed: dict[str, Any], told: str) -> None:
    runs = runs_of(VAL).assign(images_per_second=lambda runs: 1000 * runs["val_accuracy"])
    runs = runs.assign(device="cpu (a model)", num_threads=1, concurrent_seeds=1, torch="2.14.1", gcc="12.2.0")
    runs.loc[runs["variant"] == "better", list(changed)] = list(changed.values())
    compared = compare({"a": params(variant="better", metric="images_per_second")}, runs, {}, NUM_IMAGES, {})
    assert compared.not_run == ({"a": f"{SPEEDS}: {told}"} if told else {})


def test_a_seed_that_had_a_gpu_to_itself_does_not_compare_with_seeds_that_shared_it() -> None:
    """As one that was trained alone, days before, and is restored from its checkpoint."""
    runs = runs_of(VAL).assign(images_per_second=1000.0, device="a GPU", num_threads=1, concurrent_seeds=3.0)
    comparison = {"a": params(variant="better", metric="images_per_second")}
    assert compare(comparison, runs, {}, NUM_IMAGES, {}).not_run == {}
    runs.loc[(runs["variant"] == "better") & (runs["seed"] == 0), "concurrent_seeds"] = 1
    assert compare(comparison, runs, {}, NUM_IMAGES, {}).not_run == {"a": f"{SPEEDS}: concurrent_seeds 1 and 3"}


def test_seeds_that_shared_a_gpu_by_four_and_five_compare_with_others_that_did() -> None:
    runs = runs_of(VAL).assign(images_per_second=1000.0, device="a GPU", num_threads=1)
    runs["concurrent_seeds"] = runs["seed"].map(lambda seed: 4 if seed < 2 else 5)
    comparison = {"a": params(variant="better", metric="images_per_second")}
    assert compare(comparison, runs, {}, NUM_IMAGES, {}).not_run == {}


def test_a_seed_that_only_one_variant_has_is_no_obstacle() -> None:
    runs = runs_of({**VAL, "better": [*VAL["better"], 0.7]}).assign(sparsity=0.5)
    runs.loc[(runs["variant"] == "better") & (runs["seed"] == 5), "sparsity"] = math.nan
    compared = compare({"a": params(variant="better", metric="sparsity")}, runs, {}, NUM_IMAGES, {})
    assert compared.not_run == {} and compared.rows[0].num_seeds == 5


@pytest.mark.parametrize("way", ["precision", "cpu_capability", "c++", "triton"])
def test_speeds_measured_in_another_way_do_not_compare(way: str) -> None:
    runs = runs_of(VAL).assign(images_per_second=1000.0, device="cpu (a model)", num_threads=1, **{way: "one"})
    runs.loc[runs["variant"] == "better", way] = "another"
    compared = compare({"a": params(variant="better", metric="images_per_second")}, runs, {}, NUM_IMAGES, {})
    assert compared.not_run == {"a": f"{SPEEDS}: {way} another and one"}
