import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ablation.data.splits import Split
from ablation.models.speedrun import patch_covariance, whitening_filters
from ablation.training import loop
from ablation.training.backend import prepare
from ablation.training.batches import load_data, make_batch
from ablation.training.clock import Clock
from ablation.training.loop import Epoch, new_run, train_epochs, validate
from ablation.training.optimization import learning_rate
from ablation.training.randomness import epoch_plan
from ablation.training.step import gradient_norms, weight_layers
from tests.training.conftest import STATISTICS, plan_of

CPU = torch.device("cpu")
CUDA = pytest.param("cuda", marks=pytest.mark.cuda)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def run_to_end(params, seed, data, run=None):
    run = run or new_run(params, seed, data)
    for _ in train_epochs(run, params, seed, data, Clock()):
        pass
    return run


def test_it_learns_and_keeps_the_weights_of_the_best_val_epoch(
    variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params("simple_nn_bn", epochs=30, lr=0.05, augmentation="none")
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = run_to_end(params, 0, data)
    accuracies = [epoch.val_accuracy for epoch in run.epochs]
    assert max(accuracies) > 0.6  # chance is 0.1
    assert run.best_epoch == 1 + accuracies.index(max(accuracies))
    run.model.load_state_dict(run.best_weights)
    best = run.epochs[run.best_epoch - 1]
    assert validate(run.model, params, data) == (best.val_loss, best.val_accuracy)
    assert [epoch.number for epoch in run.epochs] == list(range(1, 31))


def test_first_batch_loss_is_that_of_the_untrained_network(
    variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params("simple_nn", batch_size=100)
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = run_to_end(params, 0, data)
    logits = new_run(params, 0, data).model(normalization(data.train_images))
    expected = torch.nn.functional.cross_entropy(logits, data.train_labels).item()
    assert run.first_batch_loss == pytest.approx(expected, rel=1e-5)
    assert run.first_batch_loss == pytest.approx(2.3026, abs=0.05)  # ln 10
    assert run.epochs[0].train_loss == run.first_batch_loss  # the only batch of the epoch
    assert run.epochs[0].batch_loss_sd == pytest.approx(0, abs=2e-3)


def test_batch_loss_sd_is_the_spread_of_the_batches_losses(
    variant_params, train_split, val_split, normalization
) -> None:
    """The same weights throughout, so that each batch's loss can be computed afterwards; the last batch is smaller."""
    params = variant_params("simple_nn", batch_size=30, epochs=1, lr=1e-30)
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = run_to_end(params, 0, data)
    logits = run.model(normalization(data.train_images))
    losses = torch.nn.functional.cross_entropy(logits, data.train_labels, reduction="none")
    batches = losses[epoch_plan(0, 1, 100)[1]].split(30)
    means = torch.cat([batch.mean().expand(len(batch)) for batch in batches])
    assert run.epochs[0].batch_loss_sd == pytest.approx(means.std(correction=0).item(), rel=0.02)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("variant", ["simple_nn_bn", "dropout", "adam", "resnet20", "speedrun"])
def test_an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(
    variant, device, variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params(variant, epochs=4, device=device)
    data = load_data(train_split, val_split, normalization, params, prepare(params, 100) if device == "cuda" else CPU)
    whole = run_to_end(params, 5, data)

    first = new_run(params, 5, data)
    epochs = filter(None, train_epochs(first, params, 5, data, Clock()))
    next(epochs), next(epochs)
    state = first.state()
    torch.manual_seed(99)
    resumed = new_run(params, 5, data)
    resumed.restore(state)
    run_to_end(params, 5, data, resumed)

    assert same(whole.model, resumed.model)
    untimed = [[replace(e, seconds=0.0, images_per_second=0.0) for e in run.epochs] for run in (whole, resumed)]
    assert untimed[0] == untimed[1]
    assert whole.best_epoch == resumed.best_epoch and whole.first_batch_loss == resumed.first_batch_loss


@pytest.mark.parametrize("augmentation", ["none", "shift_alternating_flip"])
def test_speedruns_first_layer_comes_from_the_first_training_images_as_they_are(
    augmentation, variant_params, train_split, val_split, normalization, monkeypatch
) -> None:
    monkeypatch.setattr(loop, "NUM_WHITENING_IMAGES", 60)
    params = variant_params("speedrun", augmentation=augmentation)
    data = load_data(train_split, val_split, normalization, params, CPU)
    mean, std = (torch.tensor(values)[:, None, None] for values in (STATISTICS.mean, STATISTICS.std))
    images = (train_split.images[:60] / 255 - mean) / std
    runs = [new_run(params, seed, data) for seed in (0, 1)]
    torch.testing.assert_close(
        runs[0].model.whitening, whitening_filters(patch_covariance(images)), rtol=1e-3, atol=1e-3
    )
    assert torch.equal(runs[0].model.whitening, runs[1].model.whitening)
    assert not any(p is runs[0].model.whitening for p in runs[0].optimizer.parameters)


def test_a_seeds_result_does_not_depend_on_what_ran_before(
    variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params("dropout")
    data = load_data(train_split, val_split, normalization, params, CPU)
    alone = run_to_end(params, 1, data)
    other = run_to_end(params, 0, data)
    assert same(alone.model, run_to_end(params, 1, data).model)
    assert not same(alone.model, other.model)


@pytest.mark.cuda
@pytest.mark.parametrize("variant", ["simple_nn_bn_swish", "dropout", "adam", "resnet20", "squeezenet", "speedrun"])
def test_two_runs_on_cuda_have_the_same_bits(
    variant, variant_params, train_split, val_split, normalization, capsys
) -> None:
    params = variant_params(variant, device="cuda", batch_size=32)
    device = prepare(params, 100)
    data = load_data(train_split, val_split, normalization, params, device)
    runs = [new_run(params, 0, data) for _ in range(2)]
    for run in runs:
        for _ in train_epochs(run, params, 0, data, Clock()):
            pass
    assert same(runs[0].model, runs[1].model)
    assert "could not capture" not in capsys.readouterr().err


def test_a_diverging_run_ends_early_and_keeps_what_was_measured(
    variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params("simple_nn", lr=1e4, epochs=10)
    run = run_to_end(params, 0, load_data(train_split, val_split, normalization, params, CPU))
    assert run.diverged_epoch == len(run.epochs) < 10
    assert 0 <= run.epochs[-1].val_accuracy <= 1 and run.best_epoch >= 1
    assert run.best_weights


def test_a_diverged_epoch_is_never_the_best(variant_params, train_split, val_split, normalization) -> None:
    """NaN logits predict class 0, of which a validation split may have more than a network had right before."""
    params = variant_params("simple_nn", epochs=2)
    only_class_0 = Split(val_split.images, torch.zeros_like(val_split.labels))
    data = load_data(train_split, only_class_0, normalization, params, CPU)
    run = new_run(params, 0, data)
    epochs = filter(None, train_epochs(run, params, 0, data, Clock()))
    assert next(epochs).val_accuracy < 1
    with torch.no_grad():
        next(run.model.parameters()).fill_(torch.nan)
    assert next(epochs).val_accuracy == 1 and run.diverged_epoch == 2
    assert run.best_epoch == 1 and all(weights.isfinite().all() for weights in run.best_weights.values())


def test_bf16_computes_in_bfloat16(variant_params, train_split, val_split, normalization) -> None:
    params = variant_params("simple_nn", precision="bf16")
    data = load_data(train_split, val_split, normalization, params, CPU)
    exact = run_to_end(variant_params("simple_nn"), 0, data).epochs[-1].train_loss
    assert run_to_end(params, 0, data).epochs[-1].train_loss == pytest.approx(exact, rel=0.02)
    assert run_to_end(params, 0, data).epochs[-1].train_loss != exact


def test_every_step_has_its_rate_of_the_schedule(variant_params, train_split, val_split, normalization) -> None:
    schedule = {"name": "one_cycle", "warmup": 0.5, "start": 0.1, "end": 0.0}
    params = variant_params("simple_nn", batch_size=30, epochs=2, schedule=schedule)
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = new_run(params, 0, data)
    steps = [epoch is None and run.optimizer.lr for epoch in train_epochs(run, params, 0, data, Clock())]
    rates = [lr for lr in steps if lr]
    assert rates == [learning_rate(params, step, 8) for step in range(8)]  # the fourth batch of an epoch is smaller
    assert [epoch.lr for epoch in run.epochs] == [rates[0], rates[4]]


def test_validation_is_of_all_images_by_the_network_at_rest(
    variant_params, train_split, val_split, normalization, monkeypatch
) -> None:
    """In several batches, with batch norm's running statistics and without dropout."""
    monkeypatch.setattr(loop, "VAL_BATCH_SIZE", 15)
    params = variant_params("simple_nn_bn", epochs=2, augmentation="none", model={"dropout": 0.5})
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = run_to_end(params, 0, data)
    with torch.inference_mode():
        logits = run.model.eval()(normalization(data.val_images))
    assert run.epochs[-1].val_loss == pytest.approx(F.cross_entropy(logits, data.val_labels).item(), rel=1e-5)
    assert run.epochs[-1].val_accuracy == pytest.approx((logits.argmax(1) == data.val_labels).double().mean().item())


def test_an_epochs_seconds_are_those_of_its_steps(
    variant_params, train_split, val_split, normalization, monkeypatch
) -> None:
    seconds = [0.0]

    def validated(*_: object) -> tuple[float, float]:
        seconds[0] += 100
        return 1.0, 0.5

    monkeypatch.setattr(loop, "validate", validated)
    params = variant_params("simple_nn", batch_size=30)
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = new_run(params, 0, data)
    for _ in train_epochs(run, params, 0, data, Clock(lambda: seconds[0])):
        seconds[0] += 2
    assert [(epoch.seconds, epoch.images_per_second) for epoch in run.epochs] == [(8, 100 / 8)] * 2  # 4 batches


def test_train_accuracy_and_gradients_are_those_of_the_batch(
    variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params("simple_nn", batch_size=100)
    only_class_0 = Split(val_split.images, torch.zeros_like(val_split.labels))  # so that the accuracies differ
    data = load_data(train_split, only_class_0, normalization, params, CPU)
    epoch, untrained = run_to_end(params, 0, data).epochs[0], new_run(params, 0, data).model
    batch = make_batch(plan_of(params, 1, 100), data)
    right = (untrained(batch[0]).argmax(1) == batch[1]).double().mean().item()
    assert epoch.train_accuracy == pytest.approx(right) and right != epoch.val_accuracy
    assert epoch.gradient_norms == pytest.approx(gradient_norms(untrained, params, *batch).tolist())


def test_the_train_loss_is_without_the_penalty_on_weights(
    variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params("l1", l1=0.1, batch_size=100, epochs=1)
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = run_to_end(params, 0, data)
    assert run.epochs[0].train_loss == run.first_batch_loss == pytest.approx(2.3026, abs=0.05)  # ln 10


def test_the_gradient_measured_is_that_of_the_first_step_dropout_included(
    variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params("dropout", batch_size=30, epochs=1)
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = new_run(params, 0, data)
    steps = train_epochs(run, params, 0, data, Clock())
    next(steps)
    stepped = [weight.grad.norm().item() for weight in weight_layers(run.model).values()]
    assert [epoch.number for epoch in filter(None, steps)] == [1]
    assert run.epochs[0].gradient_norms == pytest.approx(stepped, rel=1e-4)


@pytest.mark.parametrize("loss", ["train_loss", "val_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_either_loss_tells_that_a_run_diverged(loss, value) -> None:
    timing = {"seconds": 7.0, "images_per_second": 8.0, "concurrent_seeds": 1}
    epoch = Epoch(1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, **timing, gradient_norms=[])
    assert not epoch.diverged and replace(epoch, **{loss: value}).diverged


def test_the_first_batch_may_be_all_images_of_fewer_than_its_size(
    variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params("simple_nn", batch_size=128, epochs=1)
    run = run_to_end(params, 0, load_data(train_split, val_split, normalization, params, CPU))
    assert run.epochs[0].train_loss == run.first_batch_loss == pytest.approx(2.3026, abs=0.05)  # ln 10
