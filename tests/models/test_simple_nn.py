import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models.layers import Conv2d, conv_pool
from ablation.models.params import SimpleNNParams
from ablation.models.simple_nn import SimpleNN


def simple_nn(batch_norm: bool = False, activation: str = "relu", dropout: float = 0.0) -> SimpleNN:
    torch.manual_seed(0)
    return SimpleNN(
        SimpleNNParams.parse(
            {"name": "simple_nn", "batch_norm": batch_norm, "activation": activation, "dropout": dropout}, "test"
        )
    )


def images(num_images: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_images, 3, 32, 32, generator=generator).to(memory_format=torch.channels_last)


def textbook(model: SimpleNN, activation: str, x: Tensor) -> Tensor:
    """Convolution, batch norm, activation, then pooling, in the order of the study's table."""
    f = {"relu": F.relu, "leaky_relu": F.leaky_relu, "swish": lambda x: x * torch.sigmoid(x)}[activation]
    x = F.max_pool2d(f(model.bn1(model.conv1(x))), 2)
    x = F.max_pool2d(f(model.bn2(model.conv2(x))), 2)
    x = x.reshape(len(x), 576)
    return model.fc3(f(model.fc2(f(model.fc1(x)))))


def test_parameters_layer_by_layer() -> None:
    layers = {name: sum(p.numel() for p in layer.parameters()) for name, layer in simple_nn().named_children()}
    by_hand = {
        "conv1": (3 * 5 * 5 + 1) * 8,
        "conv2": (8 * 3 * 3 + 1) * 16,
        "fc1": (16 * 6 * 6 + 1) * 120,
        "fc2": (120 + 1) * 84,
        "fc3": (84 + 1) * 10,
    }
    assert {name: count for name, count in layers.items() if count} == by_hand
    assert list(by_hand.values()) == [608, 1_168, 69_240, 10_164, 850]
    assert sum(layers.values()) == 82_030


def test_batch_norm_adds_a_scale_and_a_shift_per_channel() -> None:
    layers = {name: sum(p.numel() for p in layer.parameters()) for name, layer in simple_nn(True).named_children()}
    assert (layers["bn1"], layers["bn2"], sum(layers.values())) == (16, 32, 82_030 + 16 + 32)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "swish"])
def test_values_and_gradients_equal_the_textbook_order(batch_norm: bool, activation: str) -> None:
    x, labels = images(64), torch.arange(64) % 10
    results = []
    for forward in (lambda model: model(x), lambda model: textbook(model, activation, x)):
        model = simple_nn(batch_norm, activation)
        logits = forward(model)
        F.cross_entropy(logits, labels).backward()
        results.append([logits, *(p.grad for p in model.parameters())])
    for ours, expected in zip(*results, strict=True):
        if activation == "swish":  # x * sigmoid(x) in one kernel rounds differently
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(ours, expected)


def block(activation: str, x: Tensor) -> Tensor:
    """`conv_pool` of x, [N, C, H, W], with a convolution that leaves it as it is."""
    channels = x.shape[1]
    conv = Conv2d(channels, channels, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(channels)[:, :, None, None])
        conv.bias.zero_()
    return conv_pool(x, conv, nn.Identity(), activation)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "swish"])
def test_ties_and_windows_without_a_positive_value(activation: str) -> None:
    """Where the order of pooling and activation could show: equal maxima, zeros, all-negative windows."""
    values = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 0.5, 2.0])
    x = values[torch.randint(len(values), (8, 4, 8, 8), generator=torch.Generator().manual_seed(2))]
    f = {"relu": F.relu, "leaky_relu": F.leaky_relu, "swish": F.silu}[activation]
    ours, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = block(activation, ours), F.max_pool2d(f(expected), 2)
    assert torch.equal(a, b)
    weights = torch.randn(a.shape, generator=torch.Generator().manual_seed(3))
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    assert ours.grad is not None and expected.grad is not None
    assert torch.equal(ours.grad, expected.grad)


def test_swish_is_not_pooled_first() -> None:
    window = torch.tensor([[[[-1.0, -5.0], [-2.0, -3.0]]]])  # swish(-5) is the largest of the four
    pooled = block("swish", window)
    assert pooled.item() == pytest.approx(-5 / (1 + math.exp(5)))


def test_first_batch_loss_is_near_chance() -> None:
    losses = []
    for seed in range(5):
        torch.manual_seed(seed)
        model = SimpleNN(SimpleNNParams(name="simple_nn", batch_norm=False, activation="relu", dropout=0.0))
        losses.append(F.cross_entropy(model(images(128)), torch.arange(128) % 10).item())
    assert losses == pytest.approx([math.log(10)] * 5, abs=0.02)


def test_dropout_follows_each_hidden_fully_connected_layer() -> None:
    model, plain = simple_nn(dropout=0.5), simple_nn()
    seen: dict[str, Tensor] = {}
    for name, m in (("dropout", model), ("plain", plain)):
        for layer in ("fc2", "fc3"):
            m.get_submodule(layer).register_forward_pre_hook(
                lambda _, args, key=f"{name} {layer}": seen.update({key: args[0]})
            )
    x = images(256)
    assert torch.equal(model.eval()(x), plain.eval()(x))
    model.train()(x)
    plain.train()(x)
    live = seen["plain fc2"] > 0
    ratio = seen["dropout fc2"][live] / seen["plain fc2"][live]
    assert set(ratio.tolist()) == {0.0, 2.0}
    assert ratio.mean().item() == pytest.approx(1, abs=0.03)
    # Half of fc2's live units, whichever they are, are silenced as well.
    assert (seen["dropout fc3"] == 0).float().mean() > (seen["plain fc3"] == 0).float().mean() + 0.15
