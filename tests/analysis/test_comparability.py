"""Which comparisons runs of given settings can answer."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ablation.analysis.comparability import differences, not_comparable, sweep_obstacle
from ablation.analysis.params import ReportParams
from ablation.common.settings import read_yaml
from ablation.configuration.study import resolve

PARAMS = Path(__file__).parents[2] / "params.yaml"
IMAGES = {"train": 45_000, "val": 5_000}


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
        variants={name: settings.model_dump(exclude={"seeds"}) for name, settings in variants.items()},
        **dict(params.aggregate),
    )


def test_a_number_is_comparable_with_the_data_and_settings_that_it_was_reported_for(tmp_path: Path) -> None:
    epochs = {"resnet20": 8, "plain20": 8, "resnet20_dws": 8, "simple_nn_lr_1e-1": 29}
    params = report(tmp_path, **epochs)
    expected = {
        "batch_norm_lr_1e-1": "epochs 30 against 29",
        "batch_norm_lr_1e-1_gain": "epochs 30 and 29, not 30",
        "resnet20": "epochs 8, not 200",
    }
    assert not_comparable(params, IMAGES) == expected
    other = not_comparable(params.model_copy(update={"label": "cifar10-jpeg"}), {"train": 5_000, "val": 500})
    data = "cifar10-jpeg, not cifar10; 5,000 training images, not 45,000; 500 validation images, not 5,000"
    assert other["first_batch_loss"] == other["plateau"] == data  # the first batch is the same for any number of epochs
    assert other["resnet20"] == f"{data}; epochs 8, not 200"
    numbers = [name for name, declared in params.comparisons.items() if declared.claim.name == "number"]
    assert sorted(other) == sorted([*numbers, "batch_norm_lr_1e-1"])


def test_a_variant_with_another_setting_than_a_claim_names_is_not_comparable(tmp_path: Path) -> None:
    params = report(tmp_path)
    base = params.variants["simple_nn_bn_swish"]
    variants = params.variants | {"simple_nn_bn_swish": base | {"lr": 0.1, "weight_decay": 0.01}}
    told = not_comparable(params.model_copy(update={"variants": variants}), IMAGES)
    both = dict.fromkeys(["lr_1e-2", "l2_1e-4"], "lr 0.1, not 0.01; weight_decay 0.01, not 0.0001")
    strong = "weight_decay 0.01 and 0.01, not 0.01 and 0.0001; lr 0.01 against 0.1"
    none = "weight_decay 0.0 and 0.01, not 0 and 0.0001; lr 0.01 against 0.1"
    others = {
        **dict.fromkeys(["l2_too_strong", "l2_too_strong_underfits"], strong),
        "gap_l2_none": none,
        "l2_none": "weight_decay 0.0 and 0.01, not 0 and 0.0001; lr 0.01 and 0.1, not 0.01",
        "lr_5e-3_against_1e-2": "lr 0.005 and 0.1, not 0.005 and 0.01; weight_decay 0.0001 against 0.01",
        "swish": "lr 0.1 against 0.01; weight_decay 0.01 against 0.0001",
    }
    assert told == both | others


def test_of_a_mapping_a_claim_names_what_counts(tmp_path: Path) -> None:
    params = report(tmp_path)

    def told(variant: str, **settings: dict[str, Any]) -> dict[str, str]:
        changed = {key: params.variants[variant][key] | value for key, value in settings.items()}
        variants = params.variants | {variant: params.variants[variant] | changed}
        return not_comparable(params.model_copy(update={"variants": variants}), IMAGES)

    without = told("simple_nn", optimizer={"momentum": 0.0})  # momentum cannot affect the first batch's loss
    beside = dict.fromkeys(
        ["augmentation", "gap_augmentation", "augmentation_underfits"], "optimizer.momentum 0.9 against 0.0"
    )
    assert without == beside | {"plateau": "optimizer.momentum 0.0, not 0.9"}
    batch_norm = told("simple_nn_lr_1e-1", model={"batch_norm": True})
    both = "model.batch_norm true and true, not true and false"
    assert batch_norm == dict.fromkeys(["batch_norm_lr_1e-1", "batch_norm_lr_1e-1_gain"], both)
    beside = dict.fromkeys(["l2_none", "gap_l2_none"], "model.dropout 0.5 against 0.0")
    assert told("l2_0", model={"dropout": 0.5}) == beside | {"l2_0": "model.dropout 0.5, not 0.0"}
    milestones = told("resnet20", schedule={"milestones": [0.6, 0.8]})
    assert milestones.pop("resnet20") == "schedule.milestones [0.6, 0.8], not [0.5, 0.75]"
    assert set(milestones.values()) == {
        "schedule.milestones [0.6, 0.8] against [0.5, 0.75]",
        "schedule.milestones [0.5, 0.75] against [0.6, 0.8]",
    }


def test_a_number_is_that_of_the_network_it_names(tmp_path: Path) -> None:
    """Not that of a network without such settings."""
    params = report(tmp_path)
    variants = params.variants | {
        "simple_nn": params.variants["simple_nn"] | {"model": {"name": "squeezenet", "downsampling": "late"}}
    }
    told = not_comparable(params.model_copy(update={"variants": variants}), IMAGES)
    assert told["plateau"] == told["first_batch_loss"] == "model.name squeezenet, not simple_nn"
    assert told["augmentation"] == "model.name simple_nn against squeezenet"


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("device", "cuda", ""),
        ("num_threads", 4, ""),
        ("checkpoint_every_epochs", 9, ""),
        ("deterministic", False, "deterministic false against true"),
        ("compile", True, "compile true against false"),
    ],
)
def test_what_changes_no_result_may_differ_unless_it_changes_a_speed_compared(
    setting: str, value: Any, told: str, tmp_path: Path
) -> None:
    """Devices and numbers of threads of speeds are checked on the runs instead."""
    params = report(tmp_path)
    variants = params.variants | {"resnet20_dws": params.variants["resnet20_dws"] | {setting: value}}
    changed = params.model_copy(update={"variants": variants})
    assert not_comparable(changed, IMAGES) == ({"dws_speed": told} if told else {})


def test_what_a_claim_leaves_open_may_differ(tmp_path: Path) -> None:
    params = report(tmp_path)
    variants = params.variants | {"simple_nn_aug": params.variants["simple_nn_aug"] | {"lr": 0.05, "epochs": 60}}
    beside = "lr 0.05 against 0.01; epochs 60 against 30"
    claim = params.comparisons["augmentation"].claim
    assert not_comparable(params.model_copy(update={"variants": variants}), IMAGES)["augmentation"] == beside
    open_claim = claim.model_copy(update={"settings": claim.settings | {"lr": None, "epochs": [60, 30]}})
    comparison = params.comparisons["augmentation"].model_copy(update={"claim": open_claim})
    changed = {"variants": variants, "comparisons": {"augmentation": comparison}}
    assert not_comparable(params.model_copy(update=changed), IMAGES) == {}


def test_every_comparison_of_the_study_can_be_made_with_its_own_settings(tmp_path: Path) -> None:
    assert not_comparable(report(tmp_path), IMAGES) == {}


def test_a_sweep_is_of_variants_that_differ_in_nothing_else(tmp_path: Path) -> None:
    params = report(tmp_path)
    sweep = params.sweeps["l2"]
    assert sweep_obstacle(sweep, params.variants) is None
    changed = params.variants["l2_0"] | {"lr": 0.05, "device": "cpu"}
    told = sweep_obstacle(sweep, params.variants | {"l2_0": changed})
    assert told == "its variants differ in lr as well"
    one_value = {name: params.variants[name] for name in ("l2_0", "lr_1e-3")}
    assert sweep_obstacle(sweep, one_value) == "fewer than two of its values are in the study"


def test_differences_are_those_of_settings_that_both_have() -> None:
    adam, sgd = {"name": "adam", "beta1": 0.9}, {"name": "sgd", "momentum": 0.9}
    found = differences({"lr": 0.1, "optimizer": adam, "epochs": 3}, {"lr": 0.2, "optimizer": sgd, "epochs": 3})
    assert found == {"lr": (0.1, 0.2), "optimizer.name": ("adam", "sgd")}


def test_variants_trained_for_other_epochs_than_their_baseline_are_not_comparable(tmp_path: Path) -> None:
    told = not_comparable(report(tmp_path, simple_nn=5, resnet20_dws=20), IMAGES)
    lengths = dict.fromkeys(["augmentation", "gap_augmentation", "augmentation_underfits"], "epochs 30 against 5")
    expected = lengths | {"plateau": "epochs 5, not 30", "dws_speed": "epochs 20 against 200"}  # counts stay comparable
    assert told == expected


def test_the_epochs_themselves_may_be_compared(tmp_path: Path) -> None:
    params = report(tmp_path)
    longer = params.variants["simple_nn"] | {"epochs": 60, "device": "cpu"}
    claim = params.comparisons["dws_speed"].claim.model_copy(update={"settings": {"epochs": [60, 30]}})
    compared = {"variant": "longer", "baseline": "simple_nn", "claim": claim}
    comparison = params.comparisons["skip_connections"].model_copy(update=compared)
    changed = {"variants": params.variants | {"longer": longer}, "comparisons": {"longer": comparison}}
    assert not_comparable(params.model_copy(update=changed), IMAGES) == {}


def test_an_upper_bound_holds_for_the_epochs_that_it_names(tmp_path: Path) -> None:
    told = not_comparable(report(tmp_path, simple_nn_aug=8, simple_nn_bn=8), IMAGES)
    assert told["convergence_without_bn"] == told["convergence_without_bn_60"] == "epochs 8, not 30"
