"""Optimizer and learning-rate schedule."""

import torch
from torch import nn

from ablation.training.params import OneCycleParams, SGDParams, StepParams, TrainParams


def build_optimizer(model: nn.Module, params: TrainParams, device: torch.device) -> torch.optim.Optimizer:
    """SGD or Adam on all parameters. On CUDA the learning rate is a tensor, which a captured graph reads anew."""
    on_cuda = device.type == "cuda"
    lr = torch.tensor(params.lr, device=device) if on_cuda else params.lr
    settings = params.optimizer
    if isinstance(settings, SGDParams):
        return torch.optim.SGD(
            model.parameters(),
            lr=lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=params.weight_decay,
            fused=True,
        )
    return torch.optim.Adam(
        model.parameters(),
        lr=lr,
        betas=(settings.beta1, settings.beta2),
        weight_decay=params.weight_decay,
        fused=True,
        capturable=on_cuda,
    )


def learning_rate(params: TrainParams, step: int, num_steps: int) -> float:
    """The learning rate of step `step` (0-based) of `num_steps`.

    one_cycle: step 0 has `start` * lr, step warmup * num_steps has lr, and `end` * lr is reached where training ends, a
    step after the last: with `end` 0 the last step still counts.
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


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def l1_weights(model: nn.Module) -> list[nn.Parameter]:
    """What L1 regularisation is on: weights of convolutions and fully connected layers, no bias, no batch norm."""
    return [p for p in model.parameters() if p.ndim > 1]
