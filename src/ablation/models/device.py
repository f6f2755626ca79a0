"""The device that a setting names."""

import torch

from ablation.common.errors import InvalidInput


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, then MPS, then CPU; `cuda` is cuda:0. Raises InvalidInput where this machine lacks the device."""
    if name == "cpu":  # without a look at the GPUs, which would start CUDA before seeds are forked
        return torch.device("cpu")
    available = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    available += ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if name == "auto":
        return torch.device(available[0])
    device = "cuda:0" if name == "cuda" else name
    if device not in available:
        raise InvalidInput(f"device {name}: not on this machine, which has {', '.join(available)} (or auto)")
    return torch.device(device)
