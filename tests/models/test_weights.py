import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from ablation.common.errors import InvalidInput
from ablation.models.build import build_model
from ablation.models.params import ModelParams, ResNet20Params, SimpleNNParams, SpeedrunParams, SqueezeNetParams
from ablation.models.speedrun import SpeedrunNet
from ablation.models.weights import find_weights, load_weights, save_weights

SIMPLE_NN = SimpleNNParams(name="simple_nn", batch_norm=True, activation="swish", dropout=0.5)
MODELS: list[ModelParams] = [
    SIMPLE_NN,
    ResNet20Params(name="resnet20", shortcut="none", convolution="depthwise_separable"),
    SqueezeNetParams(name="squeezenet", downsampling="early"),
    SpeedrunParams(name="speedrun", test_time_augmentation="multi_crop"),
]


def trained(params: ModelParams) -> torch.nn.Module:
    """A network whose buffers have left their initial values."""
    torch.manual_seed(0)
    model = build_model(params)
    if isinstance(model, SpeedrunNet):
        model.fit_whitening(torch.randn(10, 3, 32, 32))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model(torch.randn(4, 3, 32, 32))
    return model


@pytest.mark.parametrize("params", MODELS, ids=lambda p: p.name)
def test_round_trip(params: ModelParams, tmp_path: Path) -> None:
    model = trained(params)
    save_weights(tmp_path / "seed-3.safetensors", model, params)
    loaded = load_weights(tmp_path / "seed-3.safetensors")
    assert not any(module.training for module in loaded.modules())
    states = model.state_dict(), loaded.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    torch.manual_seed(0)
    fresh = build_model(params).state_dict()
    assert not any(torch.equal(fresh[name], states[1][name]) for name, _ in loaded.named_buffers() if name in fresh)
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(loaded(images), model.eval()(images))


def test_the_file_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, trained(SIMPLE_NN), SIMPLE_NN)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata == {"model": SIMPLE_NN.model_dump_json()}
    assert json.loads(metadata["model"]) == {
        "name": "simple_nn", "batch_norm": True, "activation": "swish", "dropout": 0.5,
    }  # fmt: skip


def test_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    model, contents = trained(SIMPLE_NN), set()
    for memory_format in [torch.channels_last, torch.contiguous_format] * 8:
        save_weights(tmp_path / "weights", model.to(memory_format=memory_format), SIMPLE_NN)
        contents.add((tmp_path / "weights").read_bytes())
    assert len(contents) == 1


def test_diverged_weights_are_kept(tmp_path: Path) -> None:
    model = trained(SIMPLE_NN)
    torch.nn.init.constant_(model.get_parameter("fc3.weight"), math.nan)
    save_weights(tmp_path / "weights", model, SIMPLE_NN)
    assert load_weights(tmp_path / "weights").get_parameter("fc3.weight").isnan().all()


@pytest.mark.parametrize("num_bytes", [0, 5, 100, 5_000, -1])
def test_truncated_file(num_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "seed-0.safetensors"
    save_weights(path, trained(SIMPLE_NN), SIMPLE_NN)
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(InvalidInput, match=r"seed-0\.safetensors: damaged safetensors file .*train") as error:
        load_weights(path)
    assert "\n" not in str(error.value)


def test_not_safetensors_or_absent(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a text of more than eight bytes")
    with pytest.raises(InvalidInput, match=r"notes\.txt: damaged safetensors file"):
        load_weights(tmp_path / "notes.txt")
    with pytest.raises(InvalidInput, match=r"absent: no such file$"):
        load_weights(tmp_path / "absent")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"seed": "0"},
        {"model": "not JSON"},
        {"model": "null"},
        {"model": '{"name": "vgg"}'},
        {"model": '{"name": "resnet20", "shortcut": "identity", "convolution": "standard"}'},
        {"model": '{"name": "squeezenet"}'},
    ],
)
def test_metadata_of_no_network_of_ours(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / "foreign", metadata)
    with pytest.raises(InvalidInput) as error:
        load_weights(tmp_path / "foreign")
    assert str(error.value) == (
        f"{tmp_path}/foreign: its metadata names no network of this version; train the variant again"
    )


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_tensors_of_another_network(change: str, tmp_path: Path) -> None:
    state: dict[str, Any] = trained(SIMPLE_NN).state_dict()
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    if change == "missing":
        del state["bn1.running_mean"]
    elif change == "unexpected":
        state["fc4.weight"] = torch.ones(2)
    else:
        state["fc3.bias"] = torch.ones(100)
    safetensors.torch.save_file(state, tmp_path / "other", {"model": SIMPLE_NN.model_dump_json()})
    with pytest.raises(InvalidInput) as error:
        load_weights(tmp_path / "other")
    assert str(error.value) == (
        f"{tmp_path}/other: its tensors do not fit its network simple_nn; train the variant again"
    )


def test_seeds_are_found_in_numeric_order(tmp_path: Path) -> None:
    for name in ("seed-10", "seed-2", "seed-0", ".seed-1", "seed-x", "seed-3.safetensors.old"):
        (tmp_path / f"{name}.safetensors").touch()
    assert list(find_weights(tmp_path).items()) == [(n, tmp_path / f"seed-{n}.safetensors") for n in (0, 2, 10)]


@pytest.mark.parametrize("exists", [True, False])
def test_no_weights(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path if exists else tmp_path / "absent"
    with pytest.raises(InvalidInput) as error:
        find_weights(folder)
    assert str(error.value) == f"{folder}: no weights (seed-<number>.safetensors); the stage train writes them"
