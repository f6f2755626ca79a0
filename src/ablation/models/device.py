"""The device that a setting names."""

import torch

from ablation.common.errors import InvalidInput


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, then MPS, then CPU. Raises InvalidInput where this machine lacks the device."""
    available = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    available += ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if name == "auto":
        return torch.device(available[0])
    if name not in [*available, *(["cuda"] if torch.cuda.is_available() else [])]:
        raise InvalidInput(f"device {name}: not on this machine, which has {', '.join(available)} (or auto)")
    return torch.device(name)
