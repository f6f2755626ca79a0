"""Optimizer and learning-rate schedule."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from ablation.training.params import OneCycleParams, SGDParams, StepParams, TrainParams


class Optimizer:
    """SGD or Adam on all parameters of a network, by the functions that torch.optim's classes call.

    The classes import torch's compiler on first use, which takes a second, and take twice as long for an update.

    lr: the learning rate; on CUDA a tensor, which a captured graph reads on each replay.
    state: all that steps change besides the parameters, zero before the first; torch.optim's name -> a tensor per
    parameter.
    """

    def __init__(self, model: nn.Module, params: TrainParams, device: torch.device) -> None:
        self.parameters: list[Tensor] = list(model.parameters())
        self.settings, self.weight_decay = params.optimizer, params.weight_decay
        self.on_cuda = device.type == "cuda"
        self.lr: float | Tensor = torch.tensor(params.lr, device=device) if self.on_cuda else params.lr
        if isinstance(self.settings, SGDParams):
            self.state = {"momentum_buffer": [torch.zeros_like(p) for p in self.parameters]}
        else:
            self.state = {name: [torch.zeros_like(p) for p in self.parameters] for name in ("exp_avg", "exp_avg_sq")}
            self.state["step"] = [torch.zeros((), device=device) for _ in self.parameters]

    def set_lr(self, lr: float) -> None:
        if isinstance(self.lr, Tensor):
            self.lr.fill_(lr)
        else:
            self.lr = lr

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters with their gradients."""
        gradients = cast(list[Tensor], [p.grad for p in self.parameters])
        common: dict[str, Any] = {"fused": True, "lr": self.lr, "weight_decay": self.weight_decay, "maximize": False}
        if isinstance(self.settings, SGDParams):
            sgd(
                self.parameters,
                gradients,
                [*self.state["momentum_buffer"]],
                momentum=self.settings.momentum,
                dampening=0.0,
                nesterov=self.settings.nesterov,
                **common,
            )
        else:
            adam(
                self.parameters,
                gradients,
                self.state["exp_avg"],
                self.state["exp_avg_sq"],
                [],
                self.state["step"],
                beta1=self.settings.beta1,
                beta2=self.settings.beta2,
                eps=1e-8,
                amsgrad=False,
                capturable=self.on_cuda,
                **common,
            )

    def tensors(self) -> list[Tensor]:
        """The tensors of the state."""
        return [t for slot in self.state.values() for t in slot]


def learning_rate(params: TrainParams, step: int, num_steps: int) -> float:
    """The learning rate of step `step` (0-based) of `num_steps`.

    one_cycle: step 0 has `start` * lr, step warmup * num_steps has lr, and `end` * lr would be reached one step after
    the last: with `end` 0 the last step still has a positive rate.
    """
    schedule = params.schedule
    if isinstance(schedule, StepParams):
        passed = sum(step >= milestone * num_steps for milestone in schedule.milestones)
        return params.lr * schedule.factor**passed
    if isinstance(schedule, OneCycleParams):
        peak = schedule.warmup * num_steps
        if step < peak:
            return params.lr * (schedule.start + (1 - schedule.start) * step / peak)
        return params.lr * (schedule.end + (1 - schedule.end) * (num_steps - step) / (num_steps - peak))
    return params.lr


def l1_weights(model: nn.Module) -> list[nn.Parameter]:
    """L1-regularised parameters: weights of convolutions and fully connected layers; no bias, no batch norm."""
    return [p for p in model.parameters() if p.ndim > 1]
