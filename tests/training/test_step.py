import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as reference
from torch import nn

from ablation.data.augmentation import PADDING
from ablation.data.splits import Normalization
from ablation.training.loop import load_data, new_run
from ablation.training.randomness import epoch_plan
from ablation.training.step import batch_sums, captured_step, eager_step, optimizer_tensors, warm_up

CPU = torch.device("cpu")
MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def textbook_batch(images, plan, augmented):
    """Image by image with torchvision: flip, pad, crop, scale, normalise."""
    batch = []
    for flip, index, top, left in plan.T.tolist():
        image = images[index]
        if augmented:
            image = reference.horizontal_flip(image) if flip else image
            image = reference.crop(reference.pad(image, [PADDING] * 4), top, left, 32, 32)
        batch.append(reference.normalize(image.double() / 255, MEAN, STD))
    return torch.stack(batch)


@pytest.mark.parametrize(
    ("variant", "overrides"),
    [
        ("simple_nn", {}),
        ("simple_nn_bn_swish", {}),
        ("resnet20", {"lr": 0.01}),
        ("l1", {"l1": 0.001}),
        ("simple_nn_aug", {"optimizer": {"nesterov": True}, "label_smoothing": 0.1}),
    ],
)
def test_gradients_equal_a_textbook_loop_along_its_trajectory(
    variant, overrides, variant_params, train_split, val_split
) -> None:
    """Free-running losses drift apart chaotically, so ours is set to the textbook's weights before every step.

    In double precision, where the order of sums and a ReLU at its kink leave no room to hide an error.
    """
    params = variant_params(variant, **overrides)
    mean, std = (torch.tensor(values, dtype=torch.float64).repeat(32) for values in (MEAN, STD))
    normalization = Normalization(1 / (255 * std), -mean / std)
    data = load_data(train_split, val_split, normalization, params, CPU)
    ours, textbook = new_run(params, 0, CPU), new_run(params, 0, CPU)
    ours.model.double()
    model = textbook.model.double().to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.SGD(
        model.parameters(), params.lr, 0.9, weight_decay=params.weight_decay, nesterov=params.optimizer.nesterov
    )
    step = eager_step(
        ours.model, ours.optimizer, params, data.train_images, data.train_labels, normalization, torch.zeros(2)
    )

    plans = torch.cat([epoch_plan(0, epoch, 100) for epoch in range(1, 9)], dim=1).split(params.batch_size, dim=1)
    for plan in plans[:50]:
        ours.model.load_state_dict(model.state_dict())
        step(plan)
        images = textbook_batch(train_split.images, plan, params.augmentation == "crop_flip")
        loss = F.cross_entropy(model(images), train_split.labels[plan[1]], label_smoothing=params.label_smoothing)
        loss = loss + params.l1 * sum(
            m.weight.abs().sum() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        for (name, a), b in zip(ours.model.named_parameters(), model.parameters(), strict=True):
            assert (a.grad - b.grad).norm() < 1e-5 * b.grad.norm() + 1e-7 * total, name


def test_batch_sums_are_summed_loss_and_correct_predictions() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    loss = F.cross_entropy(logits, labels)
    assert batch_sums(loss, logits, labels).tolist() == pytest.approx([3 * loss.item(), 2.0])


@pytest.mark.parametrize("variant", ["simple_nn_bn", "adam", "dropout"])
def test_warm_up_leaves_no_trace(variant, variant_params, train_split, val_split, normalization) -> None:
    """The steps that a graph capture needs change nothing: the steps after them give the same weights."""
    params = variant_params(variant)
    data = load_data(train_split, val_split, normalization, params, CPU)
    plans = epoch_plan(0, 1, 96).split(16, dim=1)
    weights = []
    for warm in (False, True):
        run, sums = new_run(params, 0, CPU), torch.zeros(2)
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
@pytest.mark.parametrize("variant", ["simple_nn_bn", "adam", "dropout", "resnet20"])
def test_captured_steps_equal_eager_ones(variant, variant_params, train_split, val_split, normalization) -> None:
    device = torch.device("cuda")
    params = variant_params(variant, device="cuda", precision="fp32")
    data = load_data(train_split, val_split, normalization, params, device)
    plans = epoch_plan(0, 1, 100).to(device).split(16, dim=1)  # the last one is smaller
    results = []
    for captured in (False, True):
        run, sums = new_run(params, 0, device), torch.zeros(2, device=device)
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
