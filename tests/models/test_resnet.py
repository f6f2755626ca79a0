import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ablation.models.params import ResNet20Params
from ablation.models.resnet import ResNet20
from tests.models.written_out import all_different, batch_norm

BLOCKS = [(16, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
SIDE = {16: 32, 32: 16, 64: 8}  # number of channels -> side of the feature map


def resnet(shortcut: str = "projection", convolution: str = "standard") -> ResNet20:
    torch.manual_seed(0)
    return ResNet20(
        ResNet20Params.parse({"name": "resnet20", "shortcut": shortcut, "convolution": convolution}, "test")
    )


def num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameters_by_hand() -> None:
    first, last = 3 * 16 * 9 + 2 * 16, 64 * 10 + 10
    blocks = [9 * i * o + 2 * o + 9 * o * o + 2 * o for i, o in BLOCKS]
    projections = [16 * 32 + 2 * 32, 32 * 64 + 2 * 64]  # option B, at the head of stages 2 and 3
    model = resnet()
    layers = {name: num_parameters(layer) for name, layer in model.named_children()}
    assert layers == {
        "conv1": 432,
        "bn1": 32,
        "stage1": sum(blocks[:3]),
        "stage2": sum(blocks[3:6]) + projections[0],
        "stage3": sum(blocks[6:]) + projections[1],
        "fc": 650,
    }
    assert num_parameters(model) == first + sum(blocks) + sum(projections) + last == 272_474
    assert num_parameters(resnet("none")) == 272_474 - sum(projections) == 269_722


def test_parameters_of_the_depthwise_separable_twin_by_hand() -> None:
    def separable(i: int, o: int) -> int:  # depthwise, its batch norm, pointwise
        return 9 * i + 2 * i + i * o

    blocks = [separable(i, o) + 2 * o + separable(o, o) + 2 * o for i, o in BLOCKS]
    expected = 464 + sum(blocks) + (16 * 32 + 64) + (32 * 64 + 128) + 650
    assert num_parameters(resnet(convolution="depthwise_separable")) == expected == 41_770


@pytest.mark.parametrize(("convolution", "expected"), [("standard", 40_813_184), ("depthwise_separable", 6_654_592)])
def test_multiply_adds_by_hand(convolution: str, expected: int) -> None:
    def conv(i: int, o: int) -> int:  # per pixel of the output
        return 9 * i * o if convolution == "standard" else 9 * i + i * o

    blocks = sum((conv(i, o) + conv(o, o)) * SIDE[o] ** 2 for i, o in BLOCKS)
    by_hand = 27 * 16 * 32**2 + blocks + 16 * 32 * 16**2 + 32 * 64 * 8**2 + 64 * 10
    with FlopCounterMode(display=False) as counter:
        resnet(convolution=convolution).eval()(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() / 2 == by_hand == expected


@pytest.mark.parametrize("convolution", ["standard", "depthwise_separable"])
@pytest.mark.parametrize("shortcut", ["projection", "none"])
def test_equals_the_network_written_out(shortcut: str, convolution: str) -> None:
    """The whole net from its state dict, in functional form, with weights and statistics that are all different."""
    model = resnet(shortcut, convolution).eval()
    state = all_different(model)
    bn = functools.partial(batch_norm, state)

    def conv(name: str, x: Tensor, stride: int) -> Tensor:
        if convolution == "standard":
            return F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=1)
        x = F.conv2d(x, state[f"{name}.0.weight"], stride=stride, padding=1, groups=x.shape[1])
        return F.conv2d(F.relu(bn(f"{name}.1", x)), state[f"{name}.3.weight"])

    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    x = F.relu(bn("bn1", F.conv2d(images, state["conv1.weight"], padding=1)))
    for k, (i, o) in enumerate(BLOCKS):
        name, stride = f"stage{k // 3 + 1}.{k % 3}", o // i
        y = F.relu(bn(f"{name}.bn1", conv(f"{name}.conv1", x, stride)))
        y = bn(f"{name}.bn2", conv(f"{name}.conv2", y, 1))
        if shortcut == "projection" and stride == 2:
            x = bn(f"{name}.shortcut.1", F.conv2d(x, state[f"{name}.shortcut.0.weight"], stride=2))
        x = F.relu(y + x) if shortcut == "projection" else F.relu(y)
        assert x.shape == (4, o, SIDE[o], SIDE[o])
    logits = F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0] @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(model(images), logits, rtol=1e-4, atol=1e-4)


def test_he_initialisation() -> None:
    model = resnet(convolution="depthwise_separable")
    deep = model.get_parameter("stage3.2.conv1.0.weight")  # [64, 1, 3, 3]: each input reaches 9 outputs
    point = model.get_parameter("stage3.2.conv1.3.weight")  # [64, 64, 1, 1]
    full = resnet().get_parameter("stage3.2.conv1.weight")  # [64, 64, 3, 3]
    assert deep.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.1)
    assert point.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.05)
    assert full.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and name != "fc.bias":  # batch norm
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))


def test_twenty_layers_on_the_longest_path() -> None:
    layers = [m for n, m in resnet().named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(layers) == 20
