import numpy as np
import pytest
import torch
from torch import nn

from ablation.training.optimization import build_optimizer, l1_weights, learning_rate, set_learning_rate


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
    optimizer = build_optimizer(nn.ParameterList([weight]), params, torch.device("cpu"))
    value, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        decayed = gradient + 0.01 * value
        velocity = 0.9 * velocity + decayed
        value -= 0.1 * (decayed + 0.9 * velocity if nesterov else velocity)
        assert weight.item() == pytest.approx(value, rel=1e-6)


def test_adam_has_the_settings_of_its_params(variant_params) -> None:
    params = variant_params("adam", weight_decay=0.02)
    optimizer = build_optimizer(nn.Linear(2, 2), params, torch.device("cpu"))
    assert isinstance(optimizer, torch.optim.Adam)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.001, (0.9, 0.999), 0.02)


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)])
def test_learning_rate_is_set_in_place_where_it_is_a_tensor(lr) -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=lr)
    set_learning_rate(optimizer, 0.25)
    assert float(optimizer.param_groups[0]["lr"]) == 0.25
    if isinstance(lr, torch.Tensor):
        assert optimizer.param_groups[0]["lr"] is lr


def test_l1_is_on_weights_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2))
    assert [tuple(p.shape) for p in l1_weights(model)] == [(8, 3, 3, 3), (2, 8)]
