import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ablation.models.params import SqueezeNetParams
from ablation.models.squeezenet import SqueezeNet
from tests.models.written_out import all_different, batch_norm

FIRES = [
    (48, 8, 32),
    (64, 8, 32),
    (64, 16, 64),
    (128, 16, 64),
    (128, 24, 96),
    (192, 24, 96),
    (192, 32, 128),
    (256, 32, 128),
]
# Side of the feature map that conv1, fire2..fire9 and conv10 work on.
SIDES = {"late": [32, 32, 32, 32, 16, 16, 16, 16, 8, 8], "early": [32, 16, 8, 8, 8, 8, 8, 8, 8, 8]}


def squeezenet(downsampling: str) -> SqueezeNet:
    torch.manual_seed(0)
    return SqueezeNet(SqueezeNetParams.parse({"name": "squeezenet", "downsampling": downsampling}, "test"))


def weights(squeeze_from: int, squeeze: int, expand: int) -> int:
    return squeeze_from * squeeze + squeeze * expand + 9 * squeeze * expand


@pytest.mark.parametrize("downsampling", ["late", "early"])
def test_parameters_by_hand(downsampling: str) -> None:
    fires = [weights(i, s, e) + 2 * s + 2 * (2 * e) for i, s, e in FIRES]
    model = squeezenet(downsampling)
    layers = {name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()}
    assert [layers[f"fire{k}"] for k in range(2, 10)] == fires
    total = 27 * 48 + 2 * 48 + sum(fires) + 256 * 10 + 10
    assert sum(layers.values()) == total == 186_426


@pytest.mark.parametrize(("downsampling", "expected"), [("late", 51_298_304), ("early", 13_549_568)])
def test_multiply_adds_by_hand(downsampling: str, expected: int) -> None:
    per_pixel = [27 * 48, *(weights(*fire) for fire in FIRES), 256 * 10]
    by_hand = sum(n * side**2 for n, side in zip(per_pixel, SIDES[downsampling], strict=True))
    with FlopCounterMode(display=False) as counter:
        squeezenet(downsampling).eval()(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() / 2 == by_hand == expected


@pytest.mark.parametrize("downsampling", ["late", "early"])
def test_map_sizes(downsampling: str) -> None:
    model = squeezenet(downsampling).eval()
    sides = []
    for name in ("conv1", *(f"fire{k}" for k in range(2, 10)), "conv10"):
        model.get_submodule(name).register_forward_hook(lambda _, args, out: sides.append(out.shape[-1]))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sides == SIDES[downsampling]


def test_twins_start_equal_and_compute_different_things() -> None:
    late, early = squeezenet("late").eval(), squeezenet("early").eval()
    states = late.state_dict(), early.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(late(images), early(images), atol=1e-3)


def test_a_fire_module_expands_both_ways_from_one_squeeze() -> None:
    """1x1 expansion sees the pixel alone, 3x3 its neighbours: shown by a single lit pixel."""
    fire = squeezenet("late").fire3.eval()
    dark, lit = torch.zeros(1, 64, 9, 9), torch.zeros(1, 64, 9, 9)
    lit[:, :, 4, 4] = torch.randn(64, generator=torch.Generator().manual_seed(2)) * 10
    changed = (fire(lit) - fire(dark)).abs()[0]
    one, three = changed[:32].amax(0), changed[32:].amax(0)
    assert (one > 0).nonzero().tolist() == [[4, 4]]
    assert (three > 0).nonzero().tolist() == [[y, x] for y in (3, 4, 5) for x in (3, 4, 5)]


@pytest.mark.parametrize("downsampling", ["late", "early"])
def test_equals_the_network_written_out(downsampling: str) -> None:
    """The whole net from its state dict, in functional form, with weights and statistics that are all different."""
    model = squeezenet(downsampling).eval()
    state = all_different(model)
    bn = functools.partial(batch_norm, state)

    def fire(name: str, x: Tensor) -> Tensor:
        x = F.relu(bn(f"{name}.bn1", F.conv2d(x, state[f"{name}.squeeze.weight"])))
        one = F.conv2d(x, state[f"{name}.expand1x1.weight"])
        three = F.conv2d(x, state[f"{name}.expand3x3.weight"], padding=1)
        return F.relu(bn(f"{name}.bn2", torch.cat([one, three], 1)))

    pooled = {"late": ("fire4", "fire8"), "early": ("conv1", "fire2")}[downsampling]
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    x = F.relu(bn("bn1", F.conv2d(images, state["conv1.weight"], padding=1)))
    for name in ("conv1", *(f"fire{k}" for k in range(2, 10))):
        x = x if name == "conv1" else fire(name, x)
        x = F.max_pool2d(x, 2) if name in pooled else x
    logits = F.conv2d(x, state["conv10.weight"], state["conv10.bias"]).mean((2, 3))
    torch.testing.assert_close(model(images), logits, rtol=1e-4, atol=1e-4)


def test_he_initialisation_of_fan_in() -> None:
    model = squeezenet("late")
    for name, fan_in in (("fire8.squeeze", 192), ("fire8.expand1x1", 32), ("fire8.expand3x3", 32 * 9)):
        weight = model.get_submodule(name).weight
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
