import pytest
import torch

from ablation.training.backend import prepare
from ablation.training.batches import load_data
from ablation.training.capture import captured_step, warm_up
from ablation.training.loop import new_run
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
        step = eager_step(run.model, run.optimizer, params, data, sums)
        state = [*run.model.state_dict(keep_vars=True).values(), *run.optimizer.tensors(), sums]
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


def test_warm_up_that_fails_half_way_leaves_no_trace(variant_params, train_split, val_split, normalization) -> None:
    """Training then continues without a graph, from where it was."""
    params = variant_params("simple_nn_bn")
    data = load_data(train_split, val_split, normalization, params, CPU)
    plan, run, sums = plan_of(params, 1, 16), new_run(params, 0, data), torch.zeros(3)
    step = eager_step(run.model, run.optimizer, params, data, sums)
    num_steps = 0

    def fails(plan: torch.Tensor) -> None:
        nonlocal num_steps
        num_steps += 1
        step(plan)
        if num_steps == 2:
            raise RuntimeError("no step in a capture")

    tensors = list(run.model.state_dict(keep_vars=True).values())
    before = [t.clone() for t in tensors]
    with pytest.raises(RuntimeError, match="no step in a capture"):
        warm_up(fails, plan, [*tensors, *run.optimizer.tensors(), sums])
    assert all(torch.equal(*pair) for pair in zip(tensors, before, strict=True))
    momenta = run.optimizer.tensors()
    assert momenta and not any(t.any() for t in [*momenta, sums])


@pytest.mark.cuda
@pytest.mark.parametrize("variant", ["simple_nn_bn", "adam", "dropout", "resnet20", "speedrun"])
@pytest.mark.parametrize("precision", ["fp32", "tf32"])  # the latter with kernels of our own
def test_captured_steps_equal_eager_ones(
    precision, variant, variant_params, train_split, val_split, normalization, capsys
) -> None:
    params = variant_params(variant, device="cuda", precision=precision)
    device = prepare(params, 100)
    data = load_data(train_split, val_split, normalization, params, device)
    plans = plan_of(params, 1, 100).to(device).split(16, dim=1)  # the last one is smaller
    results = []
    for captured in (False, True):
        run, sums = new_run(params, 0, data), torch.zeros(3, device=device)
        step = eager_step(run.model, run.optimizer, params, data, sums)
        if captured:
            step = captured_step(step, run.model, run.optimizer, sums)
        torch.manual_seed(0)
        for plan in plans:
            step(plan)
        results.append([*run.model.state_dict().values(), sums])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert "could not capture" not in capsys.readouterr().err


@pytest.mark.cuda
@pytest.mark.parametrize("sizes", [{16, 4}, {4}])
def test_a_step_that_cannot_be_captured_stays_eager_with_a_note(
    sizes, variant_params, train_split, val_split, normalization, capsys
) -> None:
    """Its dropout draws what it would have drawn, in the first epoch and in those that are seeded after it."""
    params = variant_params("dropout", device="cuda", precision="fp32")
    device = prepare(params, 100)
    data = load_data(train_split, val_split, normalization, params, device)
    plans = plan_of(params, 1, 100).to(device).split(16, dim=1)
    results = []
    for captured in (False, True):
        run, sums = new_run(params, 0, data), torch.zeros(3, device=device)
        eager = eager_step(run.model, run.optimizer, params, data, sums)

        def step(plan: torch.Tensor, eager=eager, sums=sums) -> None:
            eager(plan)
            if plan.shape[1] in sizes:
                sums.tolist()  # waits for the device, which a capture cannot

        taken = captured_step(step, run.model, run.optimizer, sums) if captured else step
        for epoch in range(3):
            torch.manual_seed(epoch)
            for plan in plans:
                taken(plan)
        results.append([*run.model.state_dict().values(), sums])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert capsys.readouterr().err.count("note: could not capture a CUDA graph, continuing without (") == 1


@pytest.mark.cuda
def test_a_capture_for_which_there_is_no_memory_ends_the_run(
    variant_params, train_split, val_split, normalization
) -> None:
    """Seeds that ran concurrently are then trained one by one, with more memory each."""
    params = variant_params("simple_nn", device="cuda")
    device = prepare(params, 100)
    data = load_data(train_split, val_split, normalization, params, device)
    run, sums = new_run(params, 0, data), torch.zeros(3, device=device)

    def step(plan: torch.Tensor) -> None:
        if torch.cuda.is_current_stream_capturing():
            torch.empty(2**50, dtype=torch.uint8, device=device)

    taken = captured_step(step, run.model, run.optimizer, sums)
    with pytest.raises(torch.OutOfMemoryError):
        taken(plan_of(params, 1, 16).to(device))
