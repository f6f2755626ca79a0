"""Shared by the tests of a network written out in functional form."""

import torch
from torch import Tensor, nn


def all_different(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of `model`, whose batch-norm parameters and statistics are set to values that all differ."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.dim() == 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model.state_dict()


def batch_norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Batch norm of x, [N, C, H, W], with the running statistics."""
    scale = state[f"{name}.weight"] / torch.sqrt(state[f"{name}.running_var"] + 1e-5)
    shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]
