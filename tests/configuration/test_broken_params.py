"""Every way to break params.yaml gives one line that says where, what, and what is allowed."""

import pytest

from tests.configuration.changes import REMOVED, SECTIONS, VALUES, changed

DATA_KEYS = "train_size, val_size, split_seed, source, url, md5, label"
TRAIN_KEYS = ", ".join(VALUES["train"])
SIMPLE_NN_KEYS = "name, batch_norm, activation, dropout"
VARIANTS = ", ".join(VALUES["variants"])
MISSING = "missing; every key must be given"
NAME_PATTERN = "must be letters, digits, '_' and '-', not beginning with '-'"
LABEL_PATTERN = "must be letters, digits, '.', '_' and '-', beginning with a letter or digit"
DEVICE_PATTERN = "must be auto, cpu, mps, cuda or cuda:N"
STEP = {"name": "step", "milestones": [0.5, 0.75], "factor": 0.1}
ONE_CYCLE = {"name": "one_cycle", "warmup": 0.2, "start": 0.1, "end": 0.0}
MODELS = "must be one of 'simple_nn', 'resnet20', 'squeezenet', 'speedrun'"
JPEG = {"data.label": "cifar10-jpeg"}
DIGITS = {"data.source": "digits", "data.label": "digits"}

UNKNOWN_KEYS = [
    ({"train.lrr": 0.1}, f"train.lrr: unknown key, set to 0.1; did you mean lr? known: {TRAIN_KEYS}"),
    (
        {"train.model.batchnorm": True},
        f"train.model.batchnorm: unknown key, set to true; did you mean batch_norm? known: {SIMPLE_NN_KEYS}",
    ),
    (
        {"train.optimizer.momentums": 0.5},
        "train.optimizer.momentums: unknown key, set to 0.5; did you mean momentum? known: name, momentum, nesterov",
    ),
    ({"train.schedule.factor": 0.1}, "train.schedule.factor: unknown key, set to 0.1; known: name"),
    ({"trian": None}, f"trian: unknown key, set to null; did you mean train? known: {SECTIONS}"),
    ({"notes": "first try"}, f"notes: unknown key, set to 'first try'; known: {SECTIONS}"),
    ({"data.vall_size": 1}, f"data.vall_size: unknown key, set to 1; did you mean val_size? known: {DATA_KEYS}"),
    (
        {"evaluate.batchsize": 1},
        "evaluate.batchsize: unknown key, set to 1; did you mean batch_size? known: batch_size, device",
    ),
    (
        {"aggregate.sweeps.l2.tittle": "L2"},
        "aggregate.sweeps.l2.tittle: unknown key, set to 'L2'; did you mean title? known: title, setting, variants",
    ),
    # A misspelt key is one mistake, though the right one is missing as well.
    (
        {"train.lr": REMOVED, "train.lrr": 0.1},
        f"train.lrr: unknown key, set to 0.1; did you mean lr? known: {TRAIN_KEYS}",
    ),
    # An option of another model.
    (
        {"variants.resnet20.model.batch_norm": True},
        "variants.resnet20.model.batch_norm: unknown key, set to true; known: name, shortcut, convolution",
    ),
    (
        {"variants.simple_nn.lrr": 1},
        f"variants.simple_nn.lrr: unknown key, set to 1; did you mean lr? known: {TRAIN_KEYS}, seeds",
    ),
    # Null inherits what is there.
    (
        {"variants.simple_nn.epohcs": None},
        f"variants.simple_nn.epohcs: unknown key, set to null; did you mean epochs? known: {TRAIN_KEYS}, seeds",
    ),
    (
        {"variants.simple_nn_bn.model.batchnorm": True},
        "variants.simple_nn_bn.model.batchnorm: unknown key, set to true; did you mean batch_norm? "
        f"known: {SIMPLE_NN_KEYS}",
    ),
    ({"train.seeds": [1]}, f"train.seeds: unknown key, set to [1]; known: {TRAIN_KEYS}"),
]

MISSING_KEYS = [
    ({"train.lr": REMOVED}, f"train.lr: {MISSING}"),
    ({"train": REMOVED}, f"train: {MISSING}"),
    ({"data.md5": REMOVED}, f"data.md5: {MISSING}"),
    ({"seeds": REMOVED}, f"seeds: {MISSING}"),
    ({"train.model.name": REMOVED}, f"train.model.name: {MISSING}"),
    ({"train.model.dropout": REMOVED}, f"train.model.dropout: {MISSING}"),
    ({"variants.plain20.model.shortcut": REMOVED}, f"variants.plain20.model.shortcut: {MISSING}"),
    ({"variants.plain20.schedule.factor": None}, "variants.plain20.schedule.factor: null must be a number"),
]

WRONG_TYPES = [
    ({"train.lr": "fast"}, "train.lr: 'fast' must be a number"),
    ({"train.lr": None}, "train.lr: null must be a number"),
    ({"train.lr": [0.1, 0.01]}, "train.lr: [0.1, 0.01] must be a number"),
    ({"train.epochs": True}, "train.epochs: true must be an integer"),
    ({"train.epochs": 30.0}, "train.epochs: 30.0 must be an integer"),
    ({"train.epochs": "30"}, "train.epochs: '30' must be an integer"),
    ({"train.deterministic": "maybe"}, "train.deterministic: 'maybe' must be true or false"),
    ({"train.deterministic": 1}, "train.deterministic: 1 must be true or false"),
    ({"train.model": "resnet20"}, "train.model: 'resnet20' must be a mapping"),
    ({"train": ["lr"]}, f"train: ['lr'] must be a mapping with the keys {TRAIN_KEYS}"),
    ({"train": None}, f"train: null must be a mapping with the keys {TRAIN_KEYS}"),
    ({"data": None}, f"data: null must be a mapping with the keys {DATA_KEYS}"),
    ({"evaluate": None}, "evaluate: null must be a mapping with the keys batch_size, device"),
    ({"variants": None}, "variants: null must be a mapping"),
    ({"variants": ["simple_nn"]}, "variants: ['simple_nn'] must be a mapping"),
    ({"variants.simple_nn": None}, "variants.simple_nn: null must be a mapping"),
    ({"variants.simple_nn": {1: 2}}, "variants.simple_nn: the name 1 must be a string"),
    ({"study": None}, "study: null must be a list"),
    ({"study": "simple_nn"}, "study: 'simple_nn' must be a list"),
    ({"study": [1]}, "study.0: 1 must be a string"),
    ({"seeds": 3}, "seeds: 3 must be a list"),
    ({"seeds": [0, "1"]}, "seeds.1: '1' must be an integer"),
    ({"data.md5": 12}, "data.md5: 12 must be a string"),
    ({"data.train_size": "some"}, "data.train_size: 'some' must be an integer or 'all'"),
    ({"data.train_size": 0.5}, "data.train_size: 0.5 must be an integer or 'all'"),
    ({"variants.simple_nn.lr": "fast"}, "variants.simple_nn.lr: 'fast' must be a number"),
    ({"variants.simple_nn.model": "resnet20"}, "variants.simple_nn.model: 'resnet20' must be a mapping"),
    (
        {"aggregate.sweeps.l2": None},
        "aggregate.sweeps.l2: null must be a mapping with the keys title, setting, variants",
    ),
]

IMPOSSIBLE_VALUES = [
    ({"train.lr": -0.1}, "train.lr: -0.1 must be greater than 0"),
    ({"train.lr": 0}, "train.lr: 0 must be greater than 0"),
    ({"train.lr": float("nan")}, "train.lr: nan must be a finite number"),
    ({"train.lr": float("inf")}, "train.lr: inf must be a finite number"),
    ({"train.weight_decay": -1e-4}, "train.weight_decay: -0.0001 must be greater than or equal to 0"),
    ({"train.label_smoothing": 1.0}, "train.label_smoothing: 1.0 must be less than 1"),
    ({"train.batch_size": 0}, "train.batch_size: 0 must be greater than 0"),
    ({"train.epochs": 0}, "train.epochs: 0 must be greater than 0"),
    ({"train.num_threads": 0}, "train.num_threads: 0 must be greater than 0"),
    ({"train.optimizer.momentum": 1.0}, "train.optimizer.momentum: 1.0 must be less than 1"),
    ({"train.model.dropout": 1}, "train.model.dropout: 1 must be less than 1"),
    (
        {"train.optimizer": {"name": "sgd", "momentum": 0.0, "nesterov": True}},
        "train.optimizer: nesterov: true needs a momentum above 0",
    ),
    (
        {"train.schedule": STEP | {"milestones": [0.75, 0.5]}},
        "train.schedule: milestones [0.75, 0.5] must be strictly increasing",
    ),
    ({"train.schedule": STEP | {"milestones": [0.5, 1.0]}}, "train.schedule.milestones.1: 1.0 must be less than 1"),
    ({"train.schedule": ONE_CYCLE | {"warmup": 1.0}}, "train.schedule.warmup: 1.0 must be less than 1"),
    ({"train.schedule": ONE_CYCLE | {"start": 0.0}}, "train.schedule.start: 0.0 must be greater than 0"),
    ({"train.schedule": ONE_CYCLE | {"start": 1.5}}, "train.schedule.start: 1.5 must be less than or equal to 1"),
    ({"train.schedule": ONE_CYCLE | {"end": -0.1}}, "train.schedule.end: -0.1 must be greater than or equal to 0"),
    ({"train.schedule": ONE_CYCLE | {"end": 1.1}}, "train.schedule.end: 1.1 must be less than or equal to 1"),
    ({"train.model.name": "simplenn"}, f"train.model.name: 'simplenn' {MODELS}"),
    ({"train.optimizer.name": "sdg"}, "train.optimizer.name: 'sdg' must be one of 'sgd', 'adam'"),
    ({"train.schedule.name": "cosin"}, "train.schedule.name: 'cosin' must be one of 'constant', 'step', 'one_cycle'"),
    ({"train.model.activation": "gelu"}, "train.model.activation: 'gelu' must be 'relu', 'leaky_relu' or 'swish'"),
    (
        {"train.augmentation": "flip"},
        "train.augmentation: 'flip' must be 'none', 'crop_flip' or 'shift_alternating_flip'",
    ),
    (
        {"variants.speedrun.model.test_time_augmentation": "mirror"},
        "variants.speedrun.model.test_time_augmentation: 'mirror' must be 'none' or 'multi_crop'",
    ),
    ({"train.precision": "fp16"}, "train.precision: 'fp16' must be 'fp32', 'tf32' or 'bf16'"),
    ({"train.device": "gpu"}, f"train.device: 'gpu' {DEVICE_PATTERN}"),
    ({"evaluate.device": "cuda:"}, f"evaluate.device: 'cuda:' {DEVICE_PATTERN}"),
    ({"evaluate.batch_size": -1}, "evaluate.batch_size: -1 must be greater than 0"),
    ({"variants.simple_nn.lr": -1}, "variants.simple_nn.lr: -1 must be greater than 0"),
    ({"variants.simple_nn.epochs": 0}, "variants.simple_nn.epochs: 0 must be greater than 0"),
    (
        {"variants.resnet20.schedule.milestones": [0.75, 0.5]},
        "variants.resnet20.schedule: milestones [0.75, 0.5] must be strictly increasing",
    ),
    ({"variants.resnet20.model.name": "resnet18"}, f"variants.resnet20.model.name: 'resnet18' {MODELS}"),
    ({"aggregate.sweeps.l2.setting": "l1"}, "aggregate.sweeps.l2.setting: 'l1' must be 'lr' or 'weight_decay'"),
]

DATA = [
    ({"data.source": "mnist"}, "data.source: 'mnist' must be 'cifar10' or 'digits'"),
    ({"data.val_size": 50_000}, "data: val_size 50000 must be below the 50000 training images of cifar10"),
    (DIGITS, "data: val_size 5000 must be below the 1437 training images of digits"),
    (
        {"data.val_size": 49_995},
        "data: train_size all and val_size 49995 must each be at least 10, one image of every class",
    ),
    (DIGITS | {"data.val_size": 1437}, "data: val_size 1437 must be below the 1437 training images of digits"),
    ({"data.val_size": 0}, "data.val_size: 0 must be greater than 0"),
    ({"data.train_size": 0}, "data.train_size: 0 must be greater than 0 or 'all'"),
    (
        {"data.train_size": 45_001},
        "data: train_size 45001 and val_size 5000 together must be at most the 50000 training images of cifar10",
    ),
    (
        DIGITS | {"data.train_size": 1238, "data.val_size": 200},
        "data: train_size 1238 and val_size 200 together must be at most the 1437 training images of digits",
    ),
    ({"data.split_seed": -1}, "data.split_seed: -1 must be greater than or equal to 0"),
    ({"data.url": ""}, "data.url: '' must have at least 1 character"),
    ({"data.md5": "C32A"} | JPEG, "data.md5: 'C32A' must be 32 hexadecimal digits"),
    (
        {"data.label": "CIFAR 10"},
        f"data.label: 'CIFAR 10' {LABEL_PATTERN}",
    ),
]

NAMES_AND_SEEDS = [
    ({"study": []}, "study: [] must have at least 1 item"),
    ({"study": ["simple_nm"]}, f"study: 'simple_nm' is not a variant; did you mean simple_nn? known: {VARIANTS}"),
    ({"study": ["resnet20", "vgg"]}, f"study: 'vgg' is not a variant; known: {VARIANTS}"),
    ({"study": ["lr_0.1"]}, f"study.0: 'lr_0.1' {NAME_PATTERN}"),
    ({"study": ["simple_nn", "l1", "simple_nn"]}, "study: 'simple_nn' is listed more than once"),
    ({"variants.the best": {}}, f"variants: the name 'the best' {NAME_PATTERN}"),
    (
        {"aggregate.sweeps.l2/all": {"title": "L2", "setting": "weight_decay", "variants": ["l2_0"]}},
        f"aggregate.sweeps.l2/all: the name 'l2/all' {NAME_PATTERN}",
    ),
    ({"seeds": []}, "seeds: [] must have at least 1 item"),
    ({"seeds": [0, 1, 0]}, "seeds: 0 is listed more than once"),
    ({"seeds": [0, -1]}, "seeds.1: -1 must be greater than or equal to 0"),
    ({"seeds": [2**32]}, "seeds.0: 4294967296 must be less than 4294967296"),
    (
        {"aggregate.sweeps.l2.variants": ["l2_00", "l2_1e-5"]},
        f"aggregate.sweeps.l2.variants: 'l2_00' is not a variant; did you mean l2_0? known: {VARIANTS}",
    ),
    (
        {"aggregate.comparisons.swish.variant": "simple_swish"},
        "aggregate.comparisons.swish.variant: 'simple_swish' is not a variant; did you mean simple_nn_bn_swish? "
        f"known: {VARIANTS}",
    ),
    (
        {"aggregate.comparisons.swish.baseline": "vgg"},
        f"aggregate.comparisons.swish.baseline: 'vgg' is not a variant; known: {VARIANTS}",
    ),
    ({"aggregate.sweeps.l2.variants": []}, "aggregate.sweeps.l2.variants: [] must have at least 1 item"),
    (
        {"aggregate.sweeps.l2.variants": ["l2_0", "l2_0"]},
        "aggregate.sweeps.l2.variants: 'l2_0' is listed more than once",
    ),
    (
        {"aggregate.comparisons.plateau.claim.value": 60},
        "aggregate.comparisons.plateau: the claim's value 60, tolerance 0.03: plateau is a fraction, so at most 1 "
        "(0.6 is 60 %)",
    ),
    ({"variants.l1.seeds": []}, "variants.l1.seeds: [] must have at least 1 item"),
    ({"variants.l1.seeds": [1, 1]}, "variants.l1.seeds: 1 is listed more than once"),
    ({"variants.l1.seeds": [-1]}, "variants.l1.seeds.0: -1 must be greater than or equal to 0"),
    ({"train.num_threads": 9999}, "train.num_threads: 9999 must be less than or equal to 256"),
]


@pytest.mark.parametrize(
    ("changes", "problem"),
    UNKNOWN_KEYS + MISSING_KEYS + WRONG_TYPES + IMPOSSIBLE_VALUES + DATA + NAMES_AND_SEEDS,
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_broken_value(configure, capsys, changes, problem):
    assert configure(changed(changes)) == f"error: params.yaml: {problem}"
    assert capsys.readouterr() == ("", "")


def test_label_cifar10_is_kept_for_the_official_data(configure):
    message = (
        "error: params.yaml: data: label 'cifar10' is reserved for the official archive "
        "(md5 c32a1d4ab5d03f1284b67883e8d87530); name other data otherwise, for example digits or cifar10-jpeg"
    )
    assert configure(changed({"data.source": "digits", "data.val_size": 200})) == message
    assert configure(changed({"data.md5": "0" * 32})) == message
    assert configure(changed({"data.md5": "0" * 32} | JPEG)) is None


@pytest.mark.parametrize("path", ["train.device", "variants.l1.device", "evaluate.device"])
def test_a_device_that_this_machine_lacks(configure, path: str) -> None:
    """It is refused before anything is trained, though the device of the evaluation is used long after."""
    error = configure(changed({path: "cuda:99"}))
    assert error.startswith(f"error: params.yaml: {path}: device cuda:99: not available on this machine; available: ")


@pytest.mark.parametrize("sizes", [{"data.train_size": 9}, {"data.val_size": 9}])
def test_fewer_images_than_classes(configure, sizes):
    assert configure(changed(sizes)).startswith("error: params.yaml: data: train_size ")


def test_two_problems_have_a_line_each(configure):
    assert configure(changed({"train.lr": -1, "seeds": []})).splitlines() == [
        "error: params.yaml: seeds: [] must have at least 1 item",
        "       params.yaml: train.lr: -1 must be greater than 0",
    ]


def test_long_values_are_cut(configure):
    error = configure(changed({"train.lr": "0.1" * 100}))
    assert error == f"error: params.yaml: train.lr: {repr('0.1' * 100)[:57]}... must be a number"


def test_mps_is_looked_for_as_well(configure, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    error = configure(changed({"train.device": "mps"}))
    assert error.startswith("error: params.yaml: train.device: device mps: not available on this machine; available: ")
