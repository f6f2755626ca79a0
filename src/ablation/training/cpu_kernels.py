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

from ablation.common.files import write_bytes

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ["-O3", "-march=native", "-fopenmp", "-fPIC"]
_library: Any = None  # ctypes.CDLL, once `load` has been called


def load(folder: Path) -> str:
    """Make `convolve` ready; what is compiled is kept in `folder` for other processes.

    Returns GCC's version and the number of lanes, on which bits depend. Raises OSError where there is no GCC (`gcc`, or
    what the environment variable CC names) or it fails.
    """
    global _library
    if _library is None:
        _library = _loaded(_compiled(folder))
    version: bytes = _library.compiler()
    return f"{version.decode()}, {_library.num_lanes()} lanes"


def _compiled(folder: Path) -> Path:
    source, compiler = SOURCE.read_bytes(), [*shlex.split(os.environ.get("CC") or "gcc"), *FLAGS]
    target = _run([*compiler, "-dM", "-E", "-xc", os.devnull])  # GCC's version and the processor's instructions
    digest = hashlib.blake2b(repr(compiler).encode() + target + source, digest_size=16)
    path = folder / f"{digest.hexdigest()}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory() as work:
            compiled, linked = Path(work, "kernels.o"), Path(work, "kernels.so")
            _run([*compiler, "-c", "-xc", "-", "-o", str(compiled)], source)
            # Without OpenMP's library: torch has loaded one, and the threads are to be the same.
            _run([*compiler[: -len(FLAGS)], "-shared", "-nostdlib", str(compiled), "-o", str(linked)])
            write_bytes(path, linked.read_bytes())
    return path


def _loaded(path: Path) -> Any:
    library: Any = ctypes.CDLL(str(path))
    pointer, sizes = ctypes.c_void_p, [*[ctypes.c_int] * 7, ctypes.c_float, ctypes.c_int]
    library.convolve.argtypes, library.gradients.argtypes = [pointer] * 5 + sizes, [pointer] * 7 + sizes
    library.compiler.restype = ctypes.c_char_p
    return library


def _run(command: list[str], input: bytes = b"") -> bytes:
    """What `command` prints. Raises OSError with the first error that it reports."""
    done = subprocess.run(command, input=input, capture_output=True)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        raise OSError(next((line for line in lines if "error" in line), f"{command[0]} failed"))
    return done.stdout


def convolve(input: Tensor, weight: Tensor, bias: Tensor, slope: float | None) -> Tensor:
    """`F.conv2d` of input [N, C, H, W] with square filters, weight [K, C, S, S], bias [K], all float32 on the CPU.

    slope: of a leaky ReLU behind a max-pooling of 2x2, which follow, 0 for a ReLU; None: neither follows. N is not 0,
    nor is the output empty, which is in the channels-last format. Differentiable once.
    """
    output: Tensor = _Convolution.apply(input, weight, bias, slope)
    return output


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, slope: float | None) -> Tensor:
        input, weight = (t.contiguous(memory_format=torch.channels_last) for t in (input, weight))
        bias = bias.contiguous()
        num_images, channels, height, width = input.shape
        filters, size = weight.shape[0], weight.shape[3]
        lengths, codes = (height - size + 1, width - size + 1), None
        if slope is not None:
            lengths = lengths[0] // 2, lengths[1] // 2
            lanes = _library.num_lanes()
            codes = input.new_empty(-(-num_images // lanes), *lengths, filters, lanes, dtype=torch.int32)
        output = input.new_empty(num_images, *lengths, filters).permute(0, 3, 1, 2)  # channels-last
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
