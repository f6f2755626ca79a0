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


def test_sgd_updates_by_the_textbook_formula(variant_params) -> None:
    params = variant_params("simple_nn", lr=0.1, weight_decay=0.01)  # momentum 0.9
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer(nn.ParameterList([weight]), params, torch.device("cpu"))
    value, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        velocity = 0.9 * velocity + gradient + 0.01 * value
        value -= 0.1 * velocity
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
