"""The device that a setting names, and its memory."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from ablation.common.errors import InvalidInput


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, then MPS, then CPU; `cuda` is cuda:0. Raises InvalidInput where this machine lacks the device."""
    if name == "cpu":  # without querying the GPUs, which would initialise CUDA before seeds are forked
        return torch.device("cpu")
    # With a driver too old for this torch, device_count still counts the GPUs; torch warns about the driver.
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = [f"cuda:{i}" for i in range(num_gpus)]
    available += ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if name == "auto":
        return torch.device(available[0])
    device = "cuda:0" if name == "cuda" else name
    if device not in available:
        raise InvalidInput(f"device {name}: not available on this machine; available: {', '.join(available)}, auto")
    return torch.device(device)


def describe(device: torch.device) -> str:
    """The name of the device, for records and checkpoint keys: libraries choose their kernels by the device model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({cpu_model()})" if device.type == "cpu" else device.type


def cpu_model() -> str:
    """The manufacturer's name for the CPU, where the system reports it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` is torch, CUDA, cuBLAS or cuDNN running out of a device's memory."""
    words = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "can't allocate memory")  # the last is the CPU's
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


@contextmanager
def enough_memory(batch_size: int, setting: str) -> Iterator[None]:
    """Raise InvalidInput where the block runs out of memory; setting: the name of `batch_size` in params.yaml."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        memory, device = ("memory", "it") if "CPUAllocator" in str(error) else ("GPU memory", "the GPU")
        raise InvalidInput(
            f"out of {memory} with batch_size {batch_size}; lower {setting}, or stop other programs that use {device}"
        ) from None
