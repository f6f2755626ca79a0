from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from ablation.training.optimization import Optimizer, l1_weights, learning_rate


def test_step_schedule_divides_by_ten_at_half_and_three_quarters(variant_params) -> None:
    params = variant_params("resnet20", epochs=200)
    steps_per_epoch = 352  # 45,000 images in batches of 128
    rates = {
        epoch: learning_rate(params, epoch * steps_per_epoch, 200 * steps_per_epoch)
        for epoch in (0, 99, 100, 149, 150, 199)
    }
    assert rates == pytest.approx({0: 0.1, 99: 0.1, 100: 0.01, 149: 0.01, 150: 0.001, 199: 0.001})
    assert learning_rate(params, 100 * steps_per_epoch - 1, 200 * steps_per_epoch) == 0.1


def test_constant_schedule(variant_params) -> None:
    params = variant_params("simple_nn", lr=0.03)
    assert [learning_rate(params, step, 10) for step in (0, 5, 9)] == [0.03] * 3


def test_one_cycle_schedule_by_hand(variant_params) -> None:
    """20 % of 10 steps up from a tenth of the rate, then down towards 0 at the end of step 9."""
    schedule = {"name": "one_cycle", "warmup": 0.2, "start": 0.1, "end": 0.0}
    params = variant_params("simple_nn", lr=0.8, schedule=schedule)
    rates = [learning_rate(params, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.08, 0.44, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ({"warmup": 0.0, "start": 0.5, "end": 0.0}, [1.0, 0.75, 0.5, 0.25]),
        ({"warmup": 0.0, "start": 0.5, "end": 0.2}, [1.0, 0.8, 0.6, 0.4]),
        ({"warmup": 0.5, "start": 1.0, "end": 1.0}, [1.0, 1.0, 1.0, 1.0]),
        ({"warmup": 0.1, "start": 0.5, "end": 0.1}, [0.5, 0.85, 0.6, 0.35]),  # the peak, 0.4, is between two steps
        ({"warmup": 0.99, "start": 0.01, "end": 0.0}, [0.01, 0.26, 0.51, 0.76]),
    ],
)
def test_one_cycle_schedule_at_its_edges(schedule, rates, variant_params) -> None:
    params = variant_params("simple_nn", lr=1.0, schedule={"name": "one_cycle", **schedule})
    assert [learning_rate(params, step, 4) for step in range(4)] == pytest.approx(rates, abs=1e-9)
    assert learning_rate(params, 0, 1) == (1.0 if schedule["warmup"] == 0 else schedule["start"])


@pytest.mark.parametrize("variant", ["resnet20_modern", "speedrun"])
def test_one_cycle_schedule_equals_interpolation_between_its_three_corners(variant, variant_params) -> None:
    params, num_steps = variant_params(variant), 704
    corners = [0, params.schedule.warmup * num_steps, num_steps]
    values = [params.schedule.start * params.lr, params.lr, params.schedule.end * params.lr]
    rates = [learning_rate(params, step, num_steps) for step in range(num_steps)]
    assert rates == pytest.approx(np.interp(range(num_steps), corners, values).tolist())
    assert min(rates) > 0


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_updates_by_the_textbook_formula(nesterov, variant_params) -> None:
    params = variant_params("simple_nn", lr=0.1, weight_decay=0.01, optimizer={"nesterov": nesterov})  # momentum 0.9
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = Optimizer(nn.ParameterList([weight]), params, torch.device("cpu"))
    value, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        decayed = gradient + 0.01 * value
        velocity = 0.9 * velocity + decayed
        value -= 0.1 * (decayed + 0.9 * velocity if nesterov else velocity)
        assert weight.item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("variant", "overrides", "reference"),
    [
        ("resnet20", {}, lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.02, fused=True)),
        (
            "speedrun",
            {"optimizer": {"momentum": 0.8, "nesterov": True}},
            lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.02, fused=True),
        ),
        (
            "simple_nn",
            {"optimizer": {"momentum": 0.0}},
            lambda ps: torch.optim.SGD(ps, lr=0.1, weight_decay=0.02, fused=True),
        ),
        (
            "adam",
            {"optimizer": {"beta1": 0.8, "beta2": 0.99}},
            lambda ps: torch.optim.Adam(ps, lr=0.1, betas=(0.8, 0.99), weight_decay=0.02, fused=True),
        ),
    ],
    ids=["sgd", "nesterov", "no momentum", "adam"],
)
def test_it_takes_the_steps_of_torchs_classes_bit_for_bit(variant, overrides, reference, variant_params) -> None:
    params = variant_params(variant, **{"lr": 0.1, "weight_decay": 0.02, **overrides})
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2))
    copy = deepcopy(model)
    ours, theirs = Optimizer(model, params, torch.device("cpu")), reference(copy.parameters())
    for lr in (0.1, 0.1, 0.03, 0.003):
        ours.set_lr(lr)
        theirs.param_groups[0]["lr"] = lr
        for p, q in zip(model.parameters(), copy.parameters(), strict=True):
            p.grad, q.grad = (torch.randn_like(p),) * 2
        ours.step()
        theirs.step()
        assert all(torch.equal(*pair) for pair in zip(model.parameters(), copy.parameters(), strict=True))


def test_a_learning_rate_that_is_a_tensor_is_set_in_place(variant_params) -> None:
    optimizer = Optimizer(nn.Linear(1, 1), variant_params("simple_nn"), torch.device("cpu"))
    optimizer.lr = lr = torch.tensor(0.5)
    optimizer.set_lr(0.25)
    assert optimizer.lr is lr and lr.item() == 0.25


def test_l1_is_on_weights_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2))
    assert [tuple(p.shape) for p in l1_weights(model)] == [(8, 3, 3, 3), (2, 8)]
