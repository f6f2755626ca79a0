import ast
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as reference
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd

from ablation.common.errors import InvalidInput
from ablation.data.augmentation import AUGMENTATIONS
from ablation.data.splits import Normalization
from ablation.models.build import build_model
from ablation.training.backend import prepare
from ablation.training.batches import load_data, make_batch
from ablation.training.capture import captured_step
from ablation.training.loop import new_run
from ablation.training.randomness import epoch_plan
from ablation.training.step import batch_sums, compiled, eager_step, gradient_norms, weight_layers
from tests.training.conftest import plan_of

CPU = torch.device("cpu")
MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def textbook_batch(images, plan, augmentation):
    """Image by image with torchvision: flip, pad, crop, scale, normalise."""
    batch = []
    for flip, index, top, left in plan.T.tolist():
        image = images[index]
        if augmentation:
            image = reference.horizontal_flip(image) if flip else image
            mode = "reflect" if augmentation.reflect else "constant"
            padded = reference.pad(image, [augmentation.padding] * 4, padding_mode=mode)
            image = reference.crop(padded, top, left, 32, 32)
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
        ("speedrun", {"lr": 0.1, "precision": "fp32"}),
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
    ours, textbook = new_run(params, 0, data), new_run(params, 0, data)
    ours.model.double()
    for tensor in ours.optimizer.tensors():
        tensor.data = tensor.double()
    model = textbook.model.double().to(memory_format=torch.contiguous_format)
    momentum, nesterov = params.optimizer.momentum, params.optimizer.nesterov
    optimizer = torch.optim.SGD(
        model.parameters(), params.lr, momentum, weight_decay=params.weight_decay, nesterov=nesterov
    )
    step = eager_step(ours.model, ours.optimizer, params, data, torch.zeros(3))

    plans = torch.cat([plan_of(params, epoch, 100) for epoch in range(1, 9)], dim=1).split(params.batch_size, dim=1)
    for plan in plans[: 8 if variant == "speedrun" else 50]:  # in double precision it is slow
        ours.model.load_state_dict(model.state_dict())
        step(plan)
        images = textbook_batch(train_split.images, plan, AUGMENTATIONS.get(params.augmentation))
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


def test_batch_sums_are_sums_of_loss_correct_predictions_and_squared_loss() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    loss = F.cross_entropy(logits, labels)
    assert batch_sums(loss, logits, labels).tolist() == pytest.approx([3 * loss.item(), 2.0, 3 * loss.item() ** 2])


@pytest.mark.parametrize("variant", ["simple_nn_bn", "resnet20"])
def test_gradient_norms_are_those_of_a_step_and_leave_the_model_alone(
    variant, variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params(variant, label_smoothing=0.1)
    data = load_data(train_split, val_split, normalization, params, CPU)
    run = new_run(params, 0, data)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    plan = epoch_plan(0, 1, 100)[:, :16]
    batch = make_batch(plan, data)
    norms = dict(zip(weight_layers(run.model), gradient_norms(run.model, params, *batch).tolist(), strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in run.model.state_dict().items())
    assert all(p.grad is None for p in run.model.parameters())

    step = eager_step(run.model, run.optimizer, params, data, torch.zeros(3))
    step(plan)
    assert norms == pytest.approx({name: run.model.get_submodule(name).weight.grad.norm().item() for name in norms})


def test_no_backward_pass_is_written_by_hand() -> None:
    """The study's second statement, as far as it is about code: the kernels save time, not work on an optimizer."""
    sources = (Path(__file__).parents[2] / "src").rglob("*.py")
    of_the_study = [path for path in sources if not path.name.startswith(("cpu_", "gpu_"))]  # those are kernels
    defined = [node for path in of_the_study for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    names = {node.name for node in defined if isinstance(node, ast.FunctionDef)}
    bases = {ast.unparse(base) for node in defined if isinstance(node, ast.ClassDef) for base in node.bases}
    assert {"train_epochs", "forward"} <= names and "backward" not in names
    assert "nn.Module" in bases and not any(base.endswith("Function") for base in bases)


def test_weight_layers_follow_the_main_path(variant_params) -> None:
    assert list(weight_layers(build_model(variant_params("simple_nn_bn").model))) == (
        ["conv1", "conv2", "fc1", "fc2", "fc3"]
    )
    layers, plain = (weight_layers(build_model(variant_params(name).model)) for name in ("resnet20", "plain20"))
    assert list(layers) == list(plain) and len(layers) == 20


@pytest.mark.parametrize(
    ("device", "precision", "rtol"),
    [
        ("cpu", "fp32", 1e-4),
        pytest.param("cuda", "fp32", 1e-4, marks=pytest.mark.cuda),  # with cuDNN's convolutions
        pytest.param("cuda", "tf32", 1e-2, marks=pytest.mark.cuda),  # with this project's
    ],
)
def test_a_compiled_network_takes_the_eager_steps(
    device, precision, rtol, variant_params, train_split, val_split, normalization, capsys
) -> None:
    """A few steps, after which rounding has not grown; on a GPU in a graph, as in training."""
    weights = []
    for compile in (False, True):
        params = variant_params("simple_nn_bn", compile=compile, device=device, precision=precision)
        place = prepare(params, 100) if device == "cuda" else CPU
        data = load_data(train_split, val_split, normalization, params, place)
        run, sums = new_run(params, 0, data), torch.zeros(3, device=place)
        step = eager_step(run.model, run.optimizer, params, data, sums)
        if compile and device == "cuda":
            step = captured_step(step, run.model, run.optimizer, sums)
        for plan in epoch_plan(0, 1, 100)[:, :48].to(place).split(16, dim=1):
            step(plan)
        weights.append([*run.model.state_dict().values(), sums])
    for eager, fast in zip(*weights, strict=True):
        torch.testing.assert_close(fast, eager, rtol=rtol, atol=rtol / 10)
    assert "note: " not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("x.cpp: No space left on device\nmore", InvalidInput),
        ("CUDA out of memory. Tried", torch._dynamo.exc.TorchDynamoException),
    ],
)
def test_a_compiler_without_room_ends_the_training(words, error, variant_params, monkeypatch) -> None:
    """Uncompiled, training would continue to different bits."""

    def full(inputs: Tensor) -> Tensor:
        raise torch._dynamo.exc.TorchDynamoException(words)

    monkeypatch.setattr(torch, "compile", lambda model, **options: full)
    with pytest.raises(error, match=words.splitlines()[0]):
        compiled(nn.Linear(3, 2), variant_params("simple_nn", compile=True))(torch.randn(4, 3))


@pytest.mark.parametrize("direction", ["fw_compiler", "bw_compiler"])
def test_a_network_that_does_not_compile_runs_eagerly_with_a_note(
    direction, variant_params, monkeypatch, capsys
) -> None:
    def refuse(module, inputs):
        raise RuntimeError("no C++ compiler\nand more lines")

    backend = aot_autograd(**{"fw_compiler": lambda module, inputs: module.forward, direction: refuse})
    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: compile_with(model, backend=backend, **options))
    model = nn.Linear(3, 2)
    forward = compiled(model, variant_params("simple_nn", compile=True))
    inputs = torch.randn(4, 3)
    assert torch.equal(forward(inputs), model(inputs))
    forward(inputs).sum().backward()
    assert model.weight.grad is not None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: could not compile the network, continuing without (") and "no C++ compiler" in line
