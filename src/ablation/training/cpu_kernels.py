"""SimpleNN's convolutions, each fused with what follows it, on a CPU, forward and backward: `cpu_kernels.c`.

It is compiled on first use. PyTorch's kernels put channels into SIMD lanes, many of which stay empty with the 3 to 16
channels of these layers, and write whole feature maps for batch norm, activation and max-pooling to read. Ours take
half the time or less (docs/performance.md).
"""

import ctypes
import hashlib
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ablation.common.files import write_bytes

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-fPIC"]
_library: Any = None  # ctypes.CDLL, once `load` has been called


def load(folder: Path) -> str:
    """Compile and load what `conv_pool` calls; the library is cached in `folder` for other processes.

    Returns GCC's version and the number of SIMD lanes, on which the bits of results depend. Raises OSError if there is
    no GCC (`gcc`, or what the environment variable CC names) or it fails.
    """
    global _library
    if _library is None:
        _library = _loaded(_compiled(folder))
    version: bytes = _library.compiler()
    return f"{version.decode()}, {_library.num_lanes()} lanes"


def _compiled(folder: Path) -> Path:
    compiler = [*shlex.split(os.environ.get("CC") or "gcc"), *FLAGS]
    source = b"".join(path.read_bytes() for path in sorted(SOURCE.parent.glob("cpu_*.[ch]")))
    macros = _run([*compiler, "-dM", "-E", str(SOURCE)])  # among them GCC's version and the CPU's instruction sets
    digest = hashlib.blake2b(repr(compiler).encode() + macros + source, digest_size=16)
    path = folder / f"{digest.hexdigest()}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory() as work:
            compiled, linked = Path(work, "kernels.o"), Path(work, "kernels.so")
            _run([*compiler, "-c", str(SOURCE), "-o", str(compiled)])
            # Not linked against an OpenMP runtime: torch has loaded one, and its threads are to be shared.
            _run([*compiler[: -len(FLAGS)], "-shared", "-nostdlib", str(compiled), "-o", str(linked)])
            write_bytes(path, linked.read_bytes())
    return path


def _loaded(path: Path) -> Any:
    library: Any = ctypes.CDLL(str(path))
    pointer, whole, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    library.convolve.argtypes = [*[pointer] * 10, *[whole] * 7, real, real, whole]
    library.gradients.argtypes = [*[pointer] * 8, *[whole] * 7]
    library.batch_norm_gradients.argtypes = [*[pointer] * 11, *[whole] * 6, real, whole]
    library.compiler.restype = ctypes.c_char_p
    return library


def _run(command: list[str]) -> bytes:
    """The standard output of `command`. Raises OSError with its error output if it fails."""
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip() or f"{command[0]} failed")
    return done.stdout


def conv_pool(input: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d | None, slope: float | None) -> Tensor:
    """2x2 max-pooling of the activations of `bn(conv(input))` or, without batch norm, of `conv(input)`.

    slope: of a leaky ReLU, 0 for a ReLU; None: Swish. input: [N, C, H, W], N not 0; conv: square filters, with a bias,
    stride 1 and no padding; bn: in training mode, made with PyTorch's defaults; all float32 on the CPU. Differentiable
    once. The output, which must not be empty, is in the channels-last format. Batch norm cancels the bias, whose
    gradient is then exactly zero, where PyTorch's is rounding error.
    """
    gamma, beta = (None, None) if bn is None else (bn.weight, bn.bias)
    output: Tensor = _ConvPool.apply(input, conv.weight, conv.bias, gamma, beta, bn, slope)
    return output


class _ConvPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        bn: nn.BatchNorm2d | None,
        slope: float | None,
    ) -> Tensor:
        input, weight = (t.contiguous(memory_format=torch.channels_last) for t in (input, weight))
        bias = bias.contiguous()
        num_images, channels, height, width = input.shape
        filters, size = weight.shape[0], weight.shape[3]
        map_height, map_width = height - size + 1, width - size + 1
        lengths = map_height // 2, map_width // 2, filters
        lanes: int = _library.num_lanes()
        blocks = -(-num_images // lanes)
        output = input.new_empty(num_images, *lengths).permute(0, 3, 1, 2)  # channels-last
        slopes = input.new_empty(blocks, *lengths, lanes)
        codes = torch.empty_like(slopes, dtype=torch.int32)
        maps = None if bn is None else input.new_empty(blocks, map_height, map_width, filters, lanes)
        statistics = input.new_empty(4, filters)
        tensors = input, weight, bias, gamma, beta, output, slopes, codes, maps, statistics
        ctx.sizes = num_images, height, width, channels, filters, size
        ctx.eps = 0.0 if bn is None else bn.eps
        settings = *ctx.sizes, slope is None, slope or 0.0, ctx.eps, torch.get_num_threads()
        _library.convolve(*_addresses(*tensors), *settings)
        if bn is not None:
            _track(bn, statistics[0], statistics[1], num_images * map_height * map_width)
        ctx.save_for_backward(input, weight, gamma, slopes, codes, maps, statistics)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, gamma, slopes, codes, maps, statistics = ctx.saved_tensors
        grad_output = grad_output.contiguous(memory_format=torch.channels_last)
        given = input, weight, grad_output, slopes, codes
        grad_input = torch.empty_like(input) if ctx.needs_input_grad[0] else None
        grad_weight, num_threads = torch.empty_like(weight), torch.get_num_threads()
        if gamma is None:
            grads = grad_input, grad_weight, weight.new_empty(len(weight))
            _library.gradients(*_addresses(*given, *grads), *ctx.sizes, num_threads)
            return *grads, None, None, None, None
        grad_bias, grad_gamma, grad_beta = weight.new_zeros(3, len(weight))
        addresses = _addresses(*given, maps, statistics, grad_input, grad_weight, grad_gamma, grad_beta)
        _library.batch_norm_gradients(*addresses, *ctx.sizes, ctx.eps, num_threads)
        return grad_input, grad_weight, grad_bias, grad_gamma, grad_beta, None, None


def _track(bn: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics with those of a batch, [C], over `count` values per channel, as PyTorch does."""
    assert bn.running_mean is not None and bn.running_var is not None
    assert bn.num_batches_tracked is not None and bn.momentum is not None
    bn.running_mean.lerp_(mean, bn.momentum)
    bn.running_var.lerp_(variance * (count / (count - 1)), bn.momentum)
    bn.num_batches_tracked.add_(1)


def _addresses(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]
