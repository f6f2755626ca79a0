"""SimpleNN's convolutions on a CPU, forward and backward: `cpu_kernels.c`, compiled at its first use.

PyTorch's kernels have channels in a register's lanes, of which the 3 to 16 of these layers leave many empty, and write
the whole map for max-pooling to read. Ours take half of the time (docs/performance.md).
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
from torch import Tensor
from torch.autograd.function import once_differentiable

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ["-O3", "-march=native", "-fopenmp", "-fPIC"]
_library: Any = None  # ctypes.CDLL, once `load` has been called


def load(folder: Path) -> str:
    """Make `convolve` ready and return GCC's version; what has been compiled is kept in `folder` for other processes.

    Raises OSError where there is no GCC (`gcc`, or what the environment variable CC names) or it fails.
    """
    global _library
    if _library is None:
        _library = _loaded(_compiled(folder))
    version: bytes = _library.compiler()
    return version.decode()


def _compiled(folder: Path) -> Path:
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    target = _run([*compiler, *FLAGS, "-dM", "-E", "-xc", os.devnull])  # its version and the processor's instructions
    name = hashlib.blake2b(target.encode() + SOURCE.read_bytes(), digest_size=16).hexdigest()
    path = folder / f"{name}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            compiled, linked = f"{work}/{name}.o", f"{work}/{name}.so"
            _run([*compiler, *FLAGS, "-c", str(SOURCE), "-o", compiled])
            # Without OpenMP's library: torch has loaded one, and the threads are to be the same.
            _run([*compiler, "-shared", "-nostdlib", compiled, "-o", linked])
            Path(linked).replace(path)
    return path


def _loaded(path: Path) -> Any:
    library: Any = ctypes.CDLL(str(path))
    pointer, sizes = ctypes.c_void_p, [*[ctypes.c_int] * 7, ctypes.c_float, ctypes.c_int]
    library.convolve.argtypes, library.gradients.argtypes = [pointer] * 5 + sizes, [pointer] * 7 + sizes
    library.compiler.restype = ctypes.c_char_p
    return library


def _run(command: list[str]) -> str:
    """What `command` prints. Raises OSError with the first error that it reports."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or [f"{command[0]} failed"]
        raise OSError(errors[0])
    return done.stdout


def convolve(input: Tensor, weight: Tensor, bias: Tensor, slope: float | None) -> Tensor:
    """`F.conv2d` of input [N, C, H, W] with square filters, weight [K, C, S, S], bias [K], all float32 on the CPU.

    slope: of a leaky ReLU behind a max-pooling of 2x2, which follow, 0 for a ReLU; None: neither follows. The output
    is in the channels-last format.
    """
    output: Tensor = _Convolution.apply(input, weight, bias, slope)
    return output


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, slope: float | None) -> Tensor:
        input, weight = (t.contiguous(memory_format=torch.channels_last) for t in (input, weight))
        num_images, channels, height, width = input.shape
        filters, size = weight.shape[0], weight.shape[3]
        lengths, codes = (height - size + 1, width - size + 1), None
        if slope is not None:
            lengths = lengths[0] // 2, lengths[1] // 2
            lanes = _library.num_lanes()
            codes = torch.empty(-(-num_images // lanes), *lengths, filters, lanes, dtype=torch.int32)
        output = torch.empty(num_images, filters, *lengths, memory_format=torch.channels_last)
        ctx.sizes = num_images, height, width, channels, filters, size, slope is not None, slope or 0.0
        _library.convolve(*_addresses(input, weight, bias, output, codes), *ctx.sizes, torch.get_num_threads())
        ctx.save_for_backward(input, weight, codes)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        input, weight, codes = ctx.saved_tensors
        grad_output = grad_output.contiguous(memory_format=torch.channels_last)
        grad_input = torch.empty_like(input) if ctx.needs_input_grad[0] else None
        grad_weight, grad_bias = torch.empty_like(weight), weight.new_empty(len(weight))
        tensors = input, weight, grad_output, codes, grad_input, grad_weight, grad_bias
        _library.gradients(*_addresses(*tensors), *ctx.sizes, torch.get_num_threads())
        return grad_input, grad_weight, grad_bias, None


def _addresses(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]
