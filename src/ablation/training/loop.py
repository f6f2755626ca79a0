"""Training one seed of one variant, from its first batch to its last epoch or its divergence."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.data.augmentation import CROP_FLIP, unaugmented
from ablation.models.build import build_model
from ablation.models.speedrun import SpeedrunNet
from ablation.training.batches import Data, make_batch
from ablation.training.capture import captured_step
from ablation.training.clock import Clock
from ablation.training.optimization import Optimizer, learning_rate
from ablation.training.params import TrainParams
from ablation.training.randomness import derive, epoch_plan
from ablation.training.step import autocast, batch_sums, eager_step, gradient_norms

VAL_BATCH_SIZE = 1000  # images; large, since no gradients are kept
NUM_WHITENING_IMAGES = 5000  # training images from which SpeedrunNet's first layer is computed


@dataclass(frozen=True)
class Epoch:
    """One epoch's metrics. Train loss and accuracy are running means over its augmented batches.

    The train loss, and so batch_loss_sd, includes label smoothing; the val loss does not.
    """

    number: int  # from 1
    train_loss: float
    train_accuracy: float
    batch_loss_sd: float  # standard deviation of the batches' train losses
    val_loss: float
    val_accuracy: float
    lr: float  # of the first step
    seconds: float  # of training, by the seed's clock; for seeds sharing a GPU also a share of the others' validation
    images_per_second: float
    concurrent_seeds: int  # by its clock, at its start
    gradient_norms: list[float]  # of the first batch before its step, in the order of step.weight_layers

    @property
    def diverged(self) -> bool:
        return not (math.isfinite(self.train_loss) and math.isfinite(self.val_loss))


@dataclass
class Run:
    """The state of one seed's training between two epochs: what a checkpoint holds."""

    model: nn.Module
    optimizer: Optimizer
    epochs: list[Epoch] = field(default_factory=list)
    first_batch_loss: float | None = None  # before any update
    best_epoch: int = 0  # from 1
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def diverged_epoch(self) -> int | None:
        return self.epochs[-1].number if self.epochs and self.epochs[-1].diverged else None

    def add(self, epoch: Epoch) -> None:
        """Append the metrics of the epoch just trained, and keep its weights if they are the best so far."""
        self.epochs.append(epoch)
        if self.best_epoch == 0 or (
            epoch.val_accuracy > self.epochs[self.best_epoch - 1].val_accuracy and not epoch.diverged
        ):
            self.best_epoch = epoch.number
            self.best_weights = {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    def finished(self, num_epochs: int) -> bool:
        """Whether it has trained for `num_epochs`, or diverged before."""
        return len(self.epochs) >= num_epochs or self.diverged_epoch is not None

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, as torch.save takes it; its tensors are the run's own."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "first_batch_loss": self.first_batch_loss,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state` with the same settings and seed; for a run fresh from `new_run`."""
        self.model.load_state_dict(state["model"])
        for name, tensors in state["optimizer"].items():
            for tensor, saved in zip(self.optimizer.state[name], tensors, strict=True):
                tensor.copy_(saved)
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.first_batch_loss = state["first_batch_loss"]
        self.best_epoch = state["best_epoch"]
        self.best_weights = state["best_weights"]


def new_run(params: TrainParams, seed: int, data: Data) -> Run:
    """The run of `seed` before its first step. Weights are initialised on the CPU, the same for every device."""
    device = data.train_labels.device
    torch.manual_seed(derive(seed, "initialization"))
    model = build_model(params.model)
    if isinstance(model, SpeedrunNet):
        images = unaugmented(data.train_images) if data.augmentation else data.train_images
        model.fit_whitening(data.normalization.to(torch.device("cpu"))(images[:NUM_WHITENING_IMAGES].cpu()))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Run(model, Optimizer(model, params, device))


def train_epochs(run: Run, params: TrainParams, seed: int, data: Data, clock: Clock) -> Iterator[Epoch | None]:
    """Continue training `run`, to the last epoch or to a loss that is not finite.

    Yields None after each step, which the device may still be executing, and each epoch when it is finished.
    clock: seconds from an arbitrary start; it times the epochs.
    """
    device = data.train_labels.device
    sums = torch.zeros(3, device=device)
    step = eager_step(run.model, run.optimizer, params, data, sums)
    if device.type == "cuda":
        step = captured_step(step, run.model, run.optimizer, sums)
    num_images = len(data.train_labels)
    num_steps = math.ceil(num_images / params.batch_size)
    while not run.finished(params.epochs):
        number = len(run.epochs) + 1
        # Without augmentation only the plan's order is used.
        plan = epoch_plan(seed, number, num_images, data.augmentation or CROP_FLIP).to(device)
        torch.manual_seed(derive(seed, "dropout", number))
        norms = gradient_norms(run.model, params, *make_batch(plan[:, : params.batch_size], data))
        torch.manual_seed(derive(seed, "dropout", number))  # again: computing the gradients has drawn dropout masks
        run.model.train()
        sums.zero_()
        first = (number - 1) * num_steps
        lrs = [learning_rate(params, first + i, params.epochs * num_steps) for i in range(num_steps)]
        start, concurrent_seeds = clock(), clock.concurrent_seeds
        for i, batch in enumerate(plan.split(params.batch_size, dim=1)):
            if i == 0 or lrs[i] != lrs[i - 1]:
                run.optimizer.set_lr(lrs[i])
            step(batch)
            if run.first_batch_loss is None:
                run.first_batch_loss = sums[0].item() / batch.shape[1]
            yield None
        train_loss, train_accuracy, square = (total / num_images for total in sums.tolist())  # waits for the device
        seconds = clock() - start
        val_loss, val_accuracy = validate(run.model, params, data)
        run.add(
            Epoch(
                number=number,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                batch_loss_sd=math.sqrt(max(square - train_loss**2, 0.0)) if math.isfinite(square) else math.nan,
                val_loss=val_loss,
                val_accuracy=val_accuracy,
                lr=lrs[0],
                seconds=seconds,
                images_per_second=num_images / seconds,
                concurrent_seeds=concurrent_seeds,
                gradient_norms=norms.tolist(),
            )
        )
        yield run.epochs[-1]


@torch.inference_mode()
def validate(model: nn.Module, params: TrainParams, data: Data) -> tuple[float, float]:
    """Mean loss and accuracy on val; waits for the device."""
    model.eval()
    sums = torch.zeros(3, device=data.val_labels.device)
    for images, labels in zip(
        data.val_images.split(VAL_BATCH_SIZE), data.val_labels.split(VAL_BATCH_SIZE), strict=True
    ):
        with autocast(params, images.device):
            logits = model(data.normalization(images))
        sums += batch_sums(F.cross_entropy(logits.float(), labels), logits, labels)
    loss, accuracy, _ = (total / len(data.val_labels) for total in sums.tolist())
    return loss, accuracy
