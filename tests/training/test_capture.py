import pytest
import torch

from ablation.training.capture import captured_step, optimizer_tensors, warm_up
from ablation.training.loop import load_data, new_run
from ablation.training.step import eager_step
from tests.training.conftest import plan_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("variant", ["simple_nn_bn", "adam", "dropout", "speedrun"])
def test_warm_up_leaves_no_trace(variant, variant_params, train_split, val_split, normalization) -> None:
    """The steps that a graph capture needs change nothing: the steps after them give the same weights."""
    params = variant_params(variant)
    data = load_data(train_split, val_split, normalization, params, CPU)
    plans = plan_of(params, 1, 96).split(16, dim=1)
    weights = []
    for warm in (False, True):
        run, sums = new_run(params, 0, data), torch.zeros(3)
        step = eager_step(run.model, run.optimizer, params, data.train_images, data.train_labels, normalization, sums)

        def state(run=run, sums=sums):
            return [*run.model.state_dict(keep_vars=True).values(), *optimizer_tensors(run.optimizer), sums]

        torch.manual_seed(0)
        if warm:
            warm_up(step, plans[0], state)
        for i, plan in enumerate(plans):
            if warm and i == 3:  # a second batch size is captured in mid-training
                warm_up(step, plan[:, :5], state)
            step(plan)
        weights.append([*run.model.state_dict().values(), sums])
    for cold, warmed in zip(*weights, strict=True):
        assert torch.equal(cold, warmed)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("variant", ["simple_nn_bn", "adam", "dropout", "resnet20", "speedrun"])
def test_captured_steps_equal_eager_ones(variant, variant_params, train_split, val_split, normalization) -> None:
    device = torch.device("cuda")
    params = variant_params(variant, device="cuda", precision="fp32")
    data = load_data(train_split, val_split, normalization, params, device)
    plans = plan_of(params, 1, 100).to(device).split(16, dim=1)  # the last one is smaller
    results = []
    for captured in (False, True):
        run, sums = new_run(params, 0, data), torch.zeros(3, device=device)
        step = eager_step(
            run.model, run.optimizer, params, data.train_images, data.train_labels, data.normalization, sums
        )
        if captured:
            step = captured_step(step, run.model, run.optimizer, sums)
        torch.manual_seed(0)
        for plan in plans:
            step(plan)
        results.append([*run.model.state_dict().values(), sums])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
