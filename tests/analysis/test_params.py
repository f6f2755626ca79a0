"""The comparisons that params.yaml declares, and those that it may not."""

import itertools
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ablation.analysis.comparisons import compare
from ablation.analysis.params import ComparisonParams, ReportParams
from ablation.common.errors import InvalidInput
from ablation.common.settings import read_yaml
from ablation.configuration.study import resolve

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"variant": "simple_m"}, "swish.variant: 'simple_m' is not a variant; did you mean simple_nn?"),
        ({"baseline": "simple_m"}, "swish.baseline: 'simple_m' is not a variant; did you mean simple_nn?"),
        ({"baseline": "simple_nn_bn_swish"}, "'simple_nn_bn_swish' is compared with itself; variant and baseline must"),
        ({"baseline": None}, "the claim higher needs a baseline; without one only number and at_most"),
        (
            {"claim": {"name": "best"}},
            "swish.claim.name: 'best' must be one of 'higher', 'lower', 'equal', 'at_most', 'number'",
        ),
        (
            {"claim": {"name": "number", "value": 0.7, "tolerance": 0.02, "settings": {"epoch": 30}}},
            "swish.claim.settings.epoch: unknown key, set to 30; did you mean epochs? known: model, augmentation",
        ),
        (
            {"claim": {"name": "higher", "settings": {"lr": [0.1, "fast"]}}},
            "swish.claim.settings.lr: 'fast' must be a number",
        ),
        (
            {"claim": {"name": "number", "value": 70, "tolerance": 0.02, "settings": {"epochs": 30}}},
            "the claim's value 70, tolerance 0.02: val_accuracy is a fraction, so at most 1 (0.6 is 60 %)",
        ),
        ({"claim": {"name": "equal", "margin": 0, "settings": {}}}, "swish.claim.margin: 0 must be greater than 0"),
        ({"metric": "loss"}, "swish.metric: 'loss' is not a metric; known: val_accuracy, plateau, test_accuracy"),
        ({"familly": "recipe"}, "did you mean family?"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values = read_yaml(PARAMS)
    values["aggregate"]["comparisons"]["swish"] |= change
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))

    with pytest.raises(InvalidInput) as error:
        resolve(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_studys_comparisons_are_declared() -> None:
    declared = resolve(str(PARAMS))[0].aggregate.comparisons

    figures = {(c.variant, c.claim.value) for c in declared.values() if c.claim.name == "number"}
    assert figures == {
        ("simple_nn_bn_lr_1e-1", 0.1632),
        ("simple_nn", 2.2998),
        ("simple_nn", 0.60),
        ("resnet20", 0.9070),
        ("lr_1e-0", 0.1028),
        ("simple_nn_bn_swish", 0.7322),
        ("lr_5e-3", 0.7322),
        ("l2_1e-3", 0.7262),
        ("simple_nn_bn_swish", 0.7334),
        ("l2_1e-5", 0.7334),
        ("l2_0", 0.7334),
    }
    pairs = [(c.variant, c.baseline, c.metric, c.claim.name) for c in declared.values()]
    assert ("simple_nn_aug", "simple_nn", "val_accuracy", "higher") in pairs
    assert ("simple_nn_bn_swish", "simple_nn_bn", "val_accuracy", "higher") in pairs
    assert ("l2_1e-2", "l2_1e-3", "val_accuracy", "lower") in pairs
    assert all(a != b for a, b in itertools.combinations(declared.values(), 2))


def test_a_comparison_outside_the_study_is_no_error(tmp_path: Path) -> None:
    values = read_yaml(PARAMS)
    values["study"] = ["simple_nn", "simple_nn_aug"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))

    params, variants = resolve(str(path))
    measured = {"val_accuracy": 0.7, "plateau": 0.6, "gap": 0.01, "train_accuracy": 0.72, "first_batch_loss": 2.3}
    runs = pd.DataFrame([{"variant": v, "seed": seed, **measured} for v in variants for seed in range(3)])
    runs = runs.assign(diverged_epoch=None, epochs_to_converge=20, epochs_to_60=7)
    compared = compare(params.aggregate.comparisons, runs, {}, {"train": 45_000, "val": 5000, "test": 10_000}, {})
    names = ["augmentation", "first_batch_loss", "plateau", "gap_augmentation", "augmentation_underfits"]
    assert [row.name for row in compared.rows] == names
    assert compared.not_run["swish"] == "simple_nn_bn_swish is not in the study"


def report(tmp_path: Path, **epochs: int) -> ReportParams:
    """The default study with other epochs of some variants."""
    path = tmp_path / "params.yaml"
    values = read_yaml(PARAMS)
    for variant, number in epochs.items():
        values["variants"][variant]["epochs"] = number
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    params, variants = resolve(str(path))
    return ReportParams(
        label="cifar10",
        seeds={name: settings.seeds for name, settings in variants.items()},
        variants={name: settings.model_dump() for name, settings in variants.items()},
        **dict(params.aggregate),
    )


def test_a_number_is_comparable_with_the_data_and_settings_that_it_was_reported_for(tmp_path: Path) -> None:
    epochs = {"resnet20": 8, "plain20": 8, "resnet20_dws": 8, "simple_nn_lr_1e-1": 29}
    params = report(tmp_path, **epochs)
    expected = {
        "batch_norm_lr_1e-1": "30 epochs against 29",
        "batch_norm_lr_1e-1_gain": "epochs 30 and 29, not 30",
        "resnet20": "epochs 8, not 200",
    }
    assert params.not_comparable(45_000) == expected
    other = params.model_copy(update={"label": "cifar10-jpeg"}).not_comparable(5000)
    data = "cifar10-jpeg, not cifar10; 5,000 training images, not 45,000"
    assert other["first_batch_loss"] == other["plateau"] == data  # a first batch knows no epochs
    assert other["resnet20"] == f"{data}; epochs 8, not 200"
    numbers = [name for name, declared in params.comparisons.items() if declared.claim.name == "number"]
    assert sorted(other) == sorted([*numbers, "batch_norm_lr_1e-1"])


def test_a_variant_with_another_setting_than_a_claim_names_is_not_comparable(tmp_path: Path) -> None:
    params = report(tmp_path)
    base = params.variants["simple_nn_bn_swish"]
    variants = params.variants | {"simple_nn_bn_swish": base | {"lr": 0.1, "weight_decay": 0.01}}
    told = params.model_copy(update={"variants": variants}).not_comparable(45_000)
    both = dict.fromkeys(["lr_1e-2", "l2_1e-4"], "lr 0.1, not 0.01; weight_decay 0.01, not 0.0001")
    l2 = {
        "l2_too_strong": "weight_decay 0.01 and 0.01, not 0.01 and 0.0001",
        "l2_too_strong_underfits": "weight_decay 0.01 and 0.01, not 0.01 and 0.0001",
        "l2_none": "weight_decay 0.0 and 0.01, not 0 and 0.0001",
        "gap_l2_none": "weight_decay 0.0 and 0.01, not 0 and 0.0001",
    }
    assert told == both | l2 | {"lr_5e-3_against_1e-2": "lr 0.005 and 0.1, not 0.005 and 0.01"}


def test_of_a_mapping_a_claim_names_what_counts(tmp_path: Path) -> None:
    params = report(tmp_path)

    def told(variant: str, **settings: dict[str, Any]) -> dict[str, str]:
        changed = {key: params.variants[variant][key] | value for key, value in settings.items()}
        variants = params.variants | {variant: params.variants[variant] | changed}
        return params.model_copy(update={"variants": variants}).not_comparable(45_000)

    without = told("simple_nn", optimizer={"momentum": 0.0})  # not that of the first batch, before a step
    assert without == {"plateau": "optimizer.momentum 0.0, not 0.9"}
    batch_norm = told("simple_nn_lr_1e-1", model={"batch_norm": True})
    both = "model.batch_norm true and true, not true and false"
    assert batch_norm == dict.fromkeys(["batch_norm_lr_1e-1", "batch_norm_lr_1e-1_gain"], both)
    assert told("l2_0", model={"dropout": 0.5}) == {"l2_0": "model.dropout 0.5, not 0.0"}
    assert told("resnet20", schedule={"milestones": [0.6, 0.8]}) == {
        "resnet20": "schedule.milestones [0.6, 0.8], not [0.5, 0.75]"
    }


def test_the_settings_of_the_numbers_reported_are_checked(tmp_path: Path) -> None:
    values = read_yaml(PARAMS)
    values["aggregate"]["reported"]["settings"] |= {"optimizer": {"momentun": 0.9}, "lr": [0.1, 0.01]}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(InvalidInput) as error:
        resolve(str(path))
    lines = str(error.value).splitlines()
    assert "aggregate.reported.settings.optimizer.momentun: unknown key, set to 0.9; did you mean momentum?" in lines[0]
    assert "aggregate.reported.settings.lr: [0.1, 0.01] must be a number" in lines[1]


@pytest.mark.parametrize(("baseline", "values"), [(None, [0.1, 0.2]), ("simple_nn", [0.1]), ("simple_nn", [1, 2, 3])])
def test_two_values_of_a_setting_are_the_variants_and_the_baselines(baseline: str | None, values: list[float]) -> None:
    claim = {"name": "number", "value": 0.1, "tolerance": 0.02, "settings": {"lr": values}}
    common = {"title": "a title", "family": "a family", "metric": "val_accuracy", "variant": "simple_nn_aug"}
    message = re.escape(f"the claim's lr: {values} must be one value, or the variant's and the baseline's")
    with pytest.raises(ValueError, match=message):
        ComparisonParams.model_validate({**common, "baseline": baseline, "claim": claim})


def test_variants_trained_for_other_epochs_than_their_baseline_are_not_comparable(tmp_path: Path) -> None:
    told = report(tmp_path, simple_nn=5, resnet20_dws=20).not_comparable(45_000)
    lengths = dict.fromkeys(["augmentation", "gap_augmentation", "augmentation_underfits"], "30 epochs against 5")
    expected = lengths | {"plateau": "epochs 5, not 30", "dws_speed": "20 epochs against 200"}  # what is counted stands
    assert told == expected


def test_the_epochs_themselves_may_be_compared(tmp_path: Path) -> None:
    params = report(tmp_path)
    longer = params.variants["simple_nn"] | {"epochs": 60, "device": "cpu"}
    comparison = params.comparisons["dws_speed"].model_copy(update={"variant": "longer", "baseline": "simple_nn"})
    changed = {"variants": params.variants | {"longer": longer}, "comparisons": {"longer": comparison}}
    assert params.model_copy(update=changed).not_comparable(45_000) == {}


def test_an_upper_bound_holds_for_the_epochs_that_it_names(tmp_path: Path) -> None:
    told = report(tmp_path, simple_nn_aug=8, simple_nn_bn=8).not_comparable(45_000)
    assert told["convergence_without_bn"] == told["convergence_without_bn_60"] == "epochs 8, not 30"
