"""Training-mode batch norm on a GPU, fused with the shortcut and activation that follow it, in Triton kernels.

PyTorch has a kernel for each of them, and each reads and writes whole feature maps, which is what takes the time. Here
two kernels traverse a feature map in the forward pass, one that sums and one that applies, and two in the backward.
Every sum has a fixed order: the same GPU and version of Triton give the same bits.
"""

from typing import Any

import torch
import triton
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ablation.training import gpu_batch_norm_kernels as kernels

NUM_PARTS = 256  # partial sums of a feature map, at most: two per multiprocessor of an H100
NUM_PROGRAMS = 528  # that share the writing of a feature map, approximately
BLOCK = 4096  # elements that a program processes at a time


def _shares(num_rows: int, block: int, num_programs: int) -> tuple[int, int]:
    """The number of programs along the rows, at most `num_programs`, and the rows of each, in whole blocks."""
    rows_each = triton.cdiv(num_rows, num_programs * block) * block
    return triton.cdiv(num_rows, rows_each), rows_each


class _Layout:
    """How a feature map [N, C, H, W], seen as a table with a row per pixel, is divided among programs."""

    def __init__(self, input: Tensor) -> None:
        channels = input.shape[1]
        block_channels = min(channels & -channels, 64)
        block_rows = BLOCK // block_channels
        self.num_rows, self.num_blocks = input.numel() // channels, channels // block_channels
        self.num_parts, self.rows_of_part = _shares(self.num_rows, block_rows, NUM_PARTS)
        num_programs = max(1, NUM_PROGRAMS // self.num_blocks)
        self.num_programs, self.rows_of_program = _shares(self.num_rows, block_rows, num_programs)
        self.max_parts = triton.next_power_of_2(self.num_parts)
        self.constants = {"CHANNELS": channels, "BLOCK_ROWS": block_rows, "BLOCK_CHANNELS": block_channels}


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        shortcut: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        bn: nn.BatchNorm2d,
        slope: float | None,
    ) -> Tensor:
        layout = _Layout(input)
        statistics = torch.empty(2, len(weight), device=input.device)
        sums = torch.empty(2, layout.num_parts, len(weight), device=input.device)
        output = torch.empty_like(input)
        kernels.input_sums[layout.num_parts, layout.num_blocks](
            input, sums, layout.num_rows, layout.rows_of_part, **layout.constants
        )
        constants = {"SHORTCUT": shortcut is not None, "SLOPE": slope}
        kernels.normalize[layout.num_programs, layout.num_blocks](
            input,
            input if shortcut is None else shortcut,
            weight,
            bias,
            sums,
            bn.running_mean,
            bn.running_var,
            bn.num_batches_tracked,
            statistics,
            output,
            layout.num_rows,
            layout.rows_of_program,
            layout.num_parts,
            bn.momentum,
            bn.eps,
            MAX_PARTS=layout.max_parts,
            **constants,
            **layout.constants,
        )
        ctx.save_for_backward(input, shortcut, weight, bias, statistics)
        ctx.constants = constants
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, shortcut, weight, bias, statistics = ctx.saved_tensors
        layout = _Layout(input)
        grad_output = grad_output.contiguous(memory_format=torch.channels_last)
        sums = torch.empty(2, layout.num_parts, len(weight), device=input.device)
        inputs = input, input if shortcut is None else shortcut, grad_output, weight, bias, statistics, sums
        kernels.gradient_sums[layout.num_parts, layout.num_blocks](
            *inputs, layout.num_rows, layout.rows_of_part, **ctx.constants, **layout.constants
        )
        grad_input, grad_weight, grad_bias = (torch.empty_like(t) for t in (input, weight, bias))
        grad_shortcut = None if shortcut is None else torch.empty_like(shortcut)
        kernels.gradients[layout.num_programs, layout.num_blocks](
            *inputs,
            grad_input,
            grad_input if grad_shortcut is None else grad_shortcut,
            grad_weight,
            grad_bias,
            layout.num_rows,
            layout.rows_of_program,
            layout.num_parts,
            MAX_PARTS=layout.max_parts,
            **ctx.constants,
            **layout.constants,
        )
        return grad_input, grad_shortcut, grad_weight, grad_bias, None, None


def batch_norm(input: Tensor, bn: nn.BatchNorm2d, slope: float | None, shortcut: Tensor | None = None) -> Tensor:
    """The activation of `bn(input) + shortcut`, [N, C, H, W], float32 or bfloat16, in the channels-last format.

    bn: in training mode, with a momentum; its running statistics are updated. slope: of the activation below zero: 1
    for no activation, None for Swish.
    """
    input = input.contiguous(memory_format=torch.channels_last)
    if shortcut is not None:
        assert shortcut.shape == input.shape
        shortcut = shortcut.contiguous(memory_format=torch.channels_last)
    output: Tensor = _BatchNorm.apply(input, shortcut, bn.weight, bn.bias, bn, slope)
    return output
