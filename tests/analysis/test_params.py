"""The comparisons that params.yaml declares, and those that it may not."""

import itertools
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ablation.analysis.comparisons import compare
from ablation.analysis.params import ComparisonParams
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
            {"claim": {"name": "higher", "settings": {"lrr": None}}},
            "swish.claim.settings.lrr: unknown key, set to null; did you mean lr? known: model, augmentation",
        ),
        (
            {"claim": {"name": "higher", "settings": {"lr": [0.1, "fast"]}}},
            "swish.claim.settings.lr: 'fast' must be a number",
        ),
        (
            {"claim": {"name": "higher", "settings": {"model": {"name": "resnet20", "convolution": "dense"}}}},
            "swish.claim.settings.model.convolution: 'dense' must be 'standard' or 'depthwise_separable'",
        ),
        (
            {"claim": {"name": "number", "value": 70, "tolerance": 0.02, "settings": {"epochs": 30}}},
            "the claim's value 70, tolerance 0.02: val_accuracy is a fraction, so at most 1 (0.6 is 60 %)",
        ),
        ({"claim": {"name": "equal", "margin": 0, "settings": {}}}, "swish.claim.margin: 0 must be greater than 0"),
        ({"title": "two\nlines"}, r"swish.title: 'two\nlines' must be one line of text, without spaces around it"),
        ({"family": "folded\n"}, r"swish.family: 'folded\n' must be one line of text"),
        ({"title": ""}, "swish.title: '' must be one line of text"),
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


@pytest.mark.parametrize(
    "model",
    [
        {"shortcut": "none"},
        {"name": "resnet20", "convolution": None},
        [{"name": "resnet20", "shortcut": "projection"}, {"name": "resnet20", "shortcut": "none"}],
        [{"name": "squeezenet"}, {"batch_norm": True}],
    ],
)
def test_of_a_mapping_a_claim_may_name_a_part_whatever_the_networks_name(model: Any, tmp_path: Path) -> None:
    values = read_yaml(PARAMS)
    values["aggregate"]["comparisons"]["swish"]["claim"] = {"name": "higher", "settings": {"model": model}}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    assert resolve(str(path))[0].aggregate.comparisons["swish"].claim.settings == {"model": model}


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
