"""Each variant differs from its baseline in the declared settings and in nothing else; the numbers are the study's."""

from typing import Any

import pytest

from ablation.configuration.study import equal_settings, resolve
from tests.configuration.changes import PROJECT, VALUES

NONE = None  # the setting does not exist: its model, optimizer or schedule is another one
RESNET20 = {
    "model.name": "resnet20",
    "model.shortcut": "projection",
    "model.convolution": "standard",
    "model.batch_norm": NONE,
    "model.activation": NONE,
    "model.dropout": NONE,
    "lr": 0.1,
    "epochs": 200,
    "schedule.name": "step",
    "schedule.milestones": [0.5, 0.75],
    "schedule.factor": 0.1,
}
SQUEEZENET = {
    "model.name": "squeezenet",
    "model.downsampling": "late",
    "model.shortcut": NONE,
    "model.convolution": NONE,
    "lr": 0.04,
}
MODERN = {
    "optimizer.nesterov": True,
    "schedule.name": "one_cycle",
    "schedule.warmup": 0.2,
    "schedule.start": 0.1,
    "schedule.end": 0.0,
    "schedule.milestones": NONE,
    "schedule.factor": NONE,
    "weight_decay": 0.0005,
    "label_smoothing": 0.1,
}
SPEEDRUN = {
    "model.name": "speedrun",
    "model.test_time_augmentation": "multi_crop",
    "model.shortcut": NONE,
    "model.convolution": NONE,
    "augmentation": "shift_alternating_flip",
    "optimizer.momentum": 0.85,
    "schedule.warmup": 0.23,
    "schedule.start": 0.2,
    "schedule.end": 0.07,
    "lr": 1.5,
    "weight_decay": 0.00133,
    "label_smoothing": 0.2,
    "batch_size": 1024,
    "epochs": 16,
    "precision": "bf16",
}
ADAM = {
    "optimizer.name": "adam",
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.momentum": NONE,
    "optimizer.nesterov": NONE,
    "lr": 0.001,
}

# variant -> (baseline, what differs from it)
DIFFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "simple_nn_aug": ("simple_nn", {"augmentation": "crop_flip"}),
    "simple_nn_bn": ("simple_nn_aug", {"model.batch_norm": True}),
    "simple_nn_lr_1e-1": ("simple_nn_aug", {"lr": 0.1}),
    "simple_nn_bn_lr_1e-1": ("simple_nn_lr_1e-1", {"model.batch_norm": True}),
    "simple_nn_bn_swish": ("simple_nn_bn", {"model.activation": "swish"}),
    "lr_1e-0": ("simple_nn_bn_swish", {"lr": 1.0}),
    "lr_1e-1": ("simple_nn_bn_swish", {"lr": 0.1}),
    "lr_5e-2": ("simple_nn_bn_swish", {"lr": 0.05}),
    "lr_5e-3": ("simple_nn_bn_swish", {"lr": 0.005}),
    "lr_1e-3": ("simple_nn_bn_swish", {"lr": 0.001}),
    "l2_1e-2": ("simple_nn_bn_swish", {"weight_decay": 0.01}),
    "l2_1e-3": ("simple_nn_bn_swish", {"weight_decay": 0.001}),
    "l2_1e-5": ("simple_nn_bn_swish", {"weight_decay": 0.00001}),
    "l2_0": ("simple_nn_bn_swish", {"weight_decay": 0.0}),
    "adam": ("simple_nn_bn", ADAM),
    "dropout": ("simple_nn_aug", {"model.dropout": 0.5}),
    "dropout_l2": ("dropout", {"weight_decay": 0.01}),
    "leaky_relu": ("simple_nn_aug", {"model.activation": "leaky_relu"}),
    "l1": ("simple_nn_aug", {"l1": 0.0001, "weight_decay": 0.0}),
    "resnet20": ("simple_nn_aug", RESNET20),
    "plain20": ("resnet20", {"model.shortcut": "none"}),
    "resnet20_dws": ("resnet20", {"model.convolution": "depthwise_separable"}),
    "squeezenet": ("resnet20", SQUEEZENET),
    "squeezenet_early": ("squeezenet", {"model.downsampling": "early"}),
    "resnet20_modern": ("resnet20", MODERN),
    "speedrun": ("resnet20_modern", SPEEDRUN),
}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"model": {"name": x}} -> {"model.name": x}."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


@pytest.fixture(scope="module")
def variants():
    return resolve(str(PROJECT / "params.yaml"))[1]


@pytest.fixture(scope="module")
def settings(variants):
    return {name: flat(params.model_dump()) for name, params in variants.items()}


def test_every_variant_is_in_the_study_and_the_table(variants):
    assert list(variants) == VALUES["study"]
    assert set(variants) == set(VALUES["variants"]) == {"simple_nn", *DIFFERENCES}


@pytest.mark.parametrize("variant", DIFFERENCES)
def test_differs_from_its_baseline_in_the_declared_settings_only(settings, variant):
    baseline, declared = DIFFERENCES[variant]
    ours, theirs = settings[variant], settings[baseline]
    assert {key: ours.get(key) for key in ours | theirs if ours.get(key) != theirs.get(key)} == declared


def test_simple_nn_has_the_numbers_of_the_study(settings):
    assert settings["simple_nn"] == {
        "seeds": [0, 1, 2],
        "model.name": "simple_nn",
        "model.batch_norm": False,
        "model.activation": "relu",
        "model.dropout": 0.0,
        "augmentation": "none",
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": False,
        "schedule.name": "constant",
        "lr": 0.01,
        "weight_decay": 0.0001,
        "l1": 0.0,
        "label_smoothing": 0.0,
        "batch_size": 128,
        "epochs": 30,
        "precision": "tf32",
        "compile": False,
        "device": "auto",
        "num_threads": 1,
        "deterministic": True,
        "checkpoint_every_epochs": 1,
    }


def test_resnet20_has_the_schedule_of_its_paper(settings):
    numbers = {"batch_size": 128, "lr": 0.1, "optimizer.momentum": 0.9, "weight_decay": 0.0001, "epochs": 200}
    assert settings["resnet20"].items() >= numbers.items()
    assert settings["resnet20"]["augmentation"] == "crop_flip"
    drops = [milestone * settings["resnet20"]["epochs"] for milestone in settings["resnet20"]["schedule.milestones"]]
    assert drops == [100, 150]


def test_speedrun_has_the_rates_of_its_paper_for_the_mean_loss(settings):
    """The paper's lr is for the summed loss and, like its decay, per 1024 * (1 + 1 / (1 - momentum)) images."""
    ours = settings["speedrun"]
    kilostep = 1024 * (1 + 1 / (1 - ours["optimizer.momentum"]))
    assert ours["lr"] == pytest.approx(11.5 / kilostep * ours["batch_size"], rel=1e-3)
    assert ours["lr"] * ours["weight_decay"] == pytest.approx(0.0153 * ours["batch_size"] / kilostep, rel=1e-3)


@pytest.mark.parametrize(
    ("sweep", "values"),
    [("learning_rate", [0.001, 0.005, 0.01, 0.05, 0.1, 1.0]), ("l2", [0.0, 0.00001, 0.0001, 0.001, 0.01])],
)
def test_sweeps_hold_all_else_equal(settings, sweep, values):
    params = VALUES["aggregate"]["sweeps"][sweep]
    swept = [dict(settings[variant]) for variant in params["variants"]]
    assert [point.pop(params["setting"]) for point in swept] == values
    assert all(point == swept[0] for point in swept)


def test_no_setting_is_trained_twice(variants):
    assert equal_settings(variants) == []


def test_data_has_the_numbers_of_the_study():
    data = resolve(str(PROJECT / "params.yaml"))[0].data
    assert (data.source, data.label, data.md5) == ("cifar10", "cifar10", "c32a1d4ab5d03f1284b67883e8d87530")
    assert (data.train_size, data.val_size) == ("all", 5000)
