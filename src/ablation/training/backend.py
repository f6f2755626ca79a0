"""The device of a run, and its kernels, precision and determinism."""

import os
import platform
import subprocess
import sys

import torch

from ablation.common.errors import InvalidInput
from ablation.models import layers
from ablation.models.build import build_model
from ablation.models.device import choose_device, out_of_memory
from ablation.training import checkpoint
from ablation.training.params import TrainParams
from ablation.training.step import autocast, no_room

_compilers: dict[str, str] = {}  # compilers of the code that networks train with -> versions


def prepare(params: TrainParams, num_images: int) -> torch.device:
    """Choose the device and set determinism and precision for this process, before any tensor work.

    num_images: of the training split.
    One thread until a seed sets `num_threads`: a thread pool would not survive the fork into one process per seed.
    With `deterministic` every operation repeats its result bit for bit on the same device: cuDNN picks among its
    deterministic algorithms without timing them. Max-pooling is deterministic, as no network here has overlapping
    windows.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA initialises
    device = choose_device(params.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # graphs are captured on the current device
    torch.set_num_threads(1)
    # Like use_deterministic_algorithms(..., warn_only=True), which would spend a second importing the compiler.
    torch.set_deterministic_debug_mode("warn" if params.deterministic else "default")
    # Else deterministic mode fills every uninitialised tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not params.deterministic
    tf32 = precision(params, device) == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    use_kernels(params, device, num_images)
    if params.compile and device.type == "cpu":
        _compilers["c++"] = cxx_version()
    return device


def cxx_version() -> str:
    """The C++ compiler that torch.compile calls on a CPU; "none" where there is none, and networks stay uncompiled."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        command = [get_cpp_compiler(), "--version"]
    except InvalidCxxCompiler:
        return "none"
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.partition("\n")[0]


def use_kernels(params: TrainParams, device: torch.device, num_images: int) -> None:
    """Let the network of `params` train with this project's kernels: SimpleNN on a CPU, any with such layers on a GPU.

    Falls back to PyTorch's on a GPU without tf32 and, with a note, where ours fail: without GCC on a CPU; without
    Triton, the C compiler that it needs, or support for this GPU. Raises on errors that may be gone on the next try,
    lack of room for a compiler (InvalidInput) or on the GPU: with other kernels, what was trained so far would be
    trained again, to different bits.
    """
    global _compilers
    _compilers = {}
    layers.train_with()
    try:
        if device.type == "cpu" and params.model.name == "simple_nn" and params.precision != "bf16":
            from ablation.training import cpu_kernels

            _compilers = {"gcc": cpu_kernels.load(checkpoint.root().with_name("kernels"))}
            layers.train_with(cpu=cpu_kernels.conv_pool)
        elif has_tf32(device):
            from ablation.training import gpu_batch_norm, gpu_convolution, gpu_depthwise

            kernels = layers.GpuKernels(
                gpu_convolution.conv2d, gpu_depthwise.depthwise_conv2d, gpu_batch_norm.batch_norm
            )
            layers.train_with(gpu=kernels)
            try_out(params, device, num_images)
            _compilers = {"triton": gpu_convolution.VERSION}
    except Exception as error:
        layers.train_with()
        if out_of_memory(error):
            raise
        if reason := no_room(error):
            raise InvalidInput(f"could not compile the kernels of this project: {reason}") from None
        lines = (str(error) or repr(error)).splitlines()
        reason = next((line for line in lines if "error" in line), lines[0])
        print(f"note: training with PyTorch's kernels, up to 2.4 times as slow ({reason})", file=sys.stderr)


def try_out(params: TrainParams, device: torch.device, num_images: int) -> None:
    """Run a batch through the network, forward and backward, so that all its kernels are compiled and run once.

    Likewise a batch of the size of the last one in an epoch of `num_images`, which may use other kernels.
    """
    model = build_model(params.model).train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for size in {min(params.batch_size, num_images), num_images % params.batch_size} - {0}:
        images = torch.zeros(size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
        with autocast(params, device):
            logits = model(images)
        logits.sum().backward()
    torch.cuda.synchronize(device)


def has_tf32(device: torch.device) -> bool:
    """Whether `device` computes in tf32: NVIDIA GPUs since compute capability 8.0."""
    return device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) >= (8, 0)


def precision(params: TrainParams, device: torch.device) -> str:
    """The precision in which `device` computes: fp32 where it has no tf32."""
    return "fp32" if params.precision == "tf32" and not has_tf32(device) else params.precision


def versions() -> dict[str, str]:
    """Versions of the software, and the CPU capability, that the bits of a result may depend on."""
    cpu = {"cpu_capability": torch.backends.cpu.get_cpu_capability()}  # by which PyTorch chooses its kernels
    return {"python": platform.python_version(), "torch": torch.__version__, **cpu, **_compilers}
