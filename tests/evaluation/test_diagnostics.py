import copy
import math

import pytest
import torch
from torch import nn

from ablation.data.splits import Statistics
from ablation.evaluation.diagnostics import LOG10_EDGES, ActiveUnits, batch_norm_means, weight_diagnostics
from ablation.evaluation.predictions import predict
from ablation.models.build import build_model
from ablation.models.params import ResNet20Params, SimpleNNParams, SpeedrunParams, SqueezeNetParams
from ablation.models.simple_nn import SimpleNN

STATISTICS = Statistics((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), [str(k) for k in range(10)])


def simple_nn(**settings) -> SimpleNN:
    torch.manual_seed(0)
    params = {"batch_norm": False, "activation": "relu", "dropout": 0.0, **settings}
    return SimpleNN(SimpleNNParams(name="simple_nn", **params)).eval()


def images(num_images: int) -> torch.Tensor:
    return torch.randint(256, (num_images, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "swish"])
def test_dead_units_are_relus_below_zero_on_every_image(activation) -> None:
    """Biases push three channels and five neurons far below zero; a unit dead on some batches only is alive.

    A leaky ReLU and Swish still pass a gradient there.
    """
    model = simple_nn(activation=activation)
    with torch.no_grad():
        model.conv1.bias[:3] = -100
        model.fc1.bias[10:15] = -100
    with ActiveUnits(model) as units:
        predict(model, images(30), STATISTICS, batch_size=7)
    natural = natural_deaths(model, images(30))
    assert natural[0] >= 3 and natural[2] >= 5
    dead = sum(natural) if activation == "relu" else 0
    assert units.dead_share == pytest.approx(dead / (8 + 16 + 120 + 84))


def natural_deaths(model: SimpleNN, raw: torch.Tensor) -> list[int]:
    """The number of dead units of each layer, from the pre-activations of all images at once."""
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (STATISTICS.mean, STATISTICS.std))
    outputs = []
    hooks = [
        getattr(model, name).register_forward_hook(lambda _, __, output: outputs.append(output))
        for name in ("conv1", "conv2", "fc1", "fc2")
    ]
    with torch.no_grad():
        model((raw / 255 - mean) / std)
    for hook in hooks:
        hook.remove()
    return [int((output.transpose(0, 1).flatten(1).max(1).values <= 0).sum()) for output in outputs]


def test_watching_changes_no_logit_and_ends_with_the_block() -> None:
    torch.manual_seed(0)
    model = build_model(ResNet20Params(name="resnet20", shortcut="projection", convolution="standard")).eval()
    expected = predict(model, images(5), STATISTICS, batch_size=5)
    with ActiveUnits(model) as units:
        assert torch.equal(predict(model, images(5), STATISTICS, batch_size=5), expected)
    share = units.dead_share
    predict(model, images(5), STATISTICS, batch_size=5)
    assert units.dead_share == share and not model._forward_pre_hooks


def test_sparsity_and_histogram_of_weights_worked_out_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-2.0, 0.001], [0.0, 1.0]]))  # relative: 1, 5e-4, 0, 0.5
        model[1].weight.copy_(torch.tensor([[0.01, 0.00002]]))  # relative: 1, 2e-3
        model[0].bias.zero_()
    found = weight_diagnostics(model)
    assert found["sparsity"] == pytest.approx(2 / 6)
    counts = dict(zip(LOG10_EDGES, found["weights"]["counts"], strict=False))
    assert {edge: n for edge, n in counts.items() if n} == {-6.0: 1, -3.4: 1, -2.8: 1, -0.4: 1, -0.2: 2}


def test_batch_norm_has_mean_zero_before_its_affine_part_and_its_bias_after() -> None:
    model = simple_nn(batch_norm=True)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for bn in (model.bn1, model.bn2):
            bn.weight.copy_(torch.rand(bn.num_features, generator=generator) + 0.5)
            bn.bias.copy_(torch.randn(bn.num_features, generator=generator))
    before = copy.deepcopy(model.state_dict())
    means = batch_norm_means(model, images(64), STATISTICS)
    assert means is not None
    assert 0 < means["normalized"] < 1e-5
    assert means["output"] == pytest.approx(torch.cat([model.bn1.bias, model.bn2.bias]).abs().mean().item(), rel=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert batch_norm_means(simple_nn(), images(4), STATISTICS) is None


@pytest.mark.parametrize(
    ("params", "num_units"),
    [
        # Six views of each image; 24 filters, and three blocks of two layers.
        (SpeedrunParams(name="speedrun", test_time_augmentation="multi_crop"), 6 * (24 + 2 * (64 + 256 + 256))),
        # conv1, and of each fire module the squeeze and both expands.
        (SqueezeNetParams(name="squeezenet", downsampling="late"), 48 + 2 * (72 + 144 + 216 + 288)),
    ],
    ids=["speedrun", "squeezenet"],
)
def test_the_units_of_every_network_are_watched(params, num_units: int) -> None:
    torch.manual_seed(0)
    model = build_model(params).eval()
    with ActiveUnits(model) as units:
        predict(model, images(3), STATISTICS, batch_size=2)
    assert len(torch.cat(units._active)) == num_units
    assert 0 <= units.dead_share < 0.5


def test_a_unit_that_is_zero_on_every_image_is_dead() -> None:
    """A ReLU at zero passes no gradient."""
    model = simple_nn()
    with torch.no_grad():
        for parameter in model.fc2.parameters():
            parameter[:10] = 0
    with ActiveUnits(model) as units:
        predict(model, images(30), STATISTICS, batch_size=7)
    natural = natural_deaths(model, images(30))
    assert natural[3] >= 10 and units.dead_share == pytest.approx(sum(natural) / (8 + 16 + 120 + 84))


def test_a_layer_of_zeros_is_sparse() -> None:
    model = nn.Linear(2, 3)
    nn.init.zeros_(model.weight)
    found = weight_diagnostics(model)
    assert found["sparsity"] == 1
    assert found["weights"]["counts"] == [6] + [0] * (len(LOG10_EDGES) - 2)


def test_batch_norm_of_a_network_that_diverged_has_no_means() -> None:
    model = simple_nn(batch_norm=True)
    nn.init.constant_(model.conv1.weight, math.nan)
    assert batch_norm_means(model, images(4), STATISTICS) is None
