"""Compiles every kernel that a step of a variant launches on a GPU, on a machine without one, and prints how many.

Usage: python -m tests.training.gpu_compilation params.yaml VARIANT tf32|bf16 CAPABILITY
"""

import collections
import json
import sys

import torch
import torch.nn.functional as F
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction, MockTensor

from ablation.configuration.study import resolve
from ablation.models import layers
from ablation.models.build import build_model

PARAMS, VARIANT, PRECISION = sys.argv[1:4]
CAPABILITY = int(sys.argv[4])  # an A100 has 80, an RTX 4090 89, an H100 90
SHARED_MEMORY = {80: 163, 89: 99, 90: 227}[CAPABILITY] * 1024  # bytes, per program


class Driver:
    """Triton's driver for a GPU that is not there."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0


num_started: collections.Counter[str] = collections.Counter()
run = JITFunction.run


def compile_only(self, *args, grid, warmup, **settings):
    assert all(0 < programs < 2**31 for programs in grid) and all(programs < 2**16 for programs in grid[1:])
    stand_ins = [MockTensor(arg.dtype) if isinstance(arg, Tensor) else arg for arg in args]
    kernel = run(self, *stand_ins, grid=grid, warmup=True, **settings)
    assert kernel.metadata.shared <= SHARED_MEMORY
    num_started[self.fn.__name__] += 1


triton.runtime.driver.set_active(Driver())
JITFunction.run = compile_only
# With tensors without data torch only computes an operator's shapes; here it is to launch the kernels.
torch.library.register_fake = lambda name: lambda function: function
from ablation.training import gpu_batch_norm, gpu_convolution, gpu_depthwise  # noqa: E402

gpu_convolution._stages = lambda num_bytes, wanted, device: max(1, min(wanted, SHARED_MEMORY // num_bytes))
layers._trains_on_gpu = lambda input: torch.is_grad_enabled()
layers.train_with(
    gpu=layers.GpuKernels(gpu_convolution.conv2d, gpu_depthwise.depthwise_conv2d, gpu_batch_norm.batch_norm)
)
torch.backends.cudnn.allow_tf32 = True
if PRECISION == "bf16":  # autocast needs a GPU
    layers._autocast = lambda tensor: tensor.to(torch.bfloat16)
    linear = F.linear
    F.linear = lambda input, weight, bias: linear(input.float(), weight, bias)
with torch.device("meta"):
    model = build_model(resolve(PARAMS)[1][VARIANT].model).train()
    for num_images in (128, 72, 1):  # the last batch of an epoch of 45,000 images, and the smallest
        images = torch.empty(num_images, 32, 32, 3).permute(0, 3, 1, 2)
        model.zero_grad()
        F.cross_entropy(model(images), torch.zeros(num_images, dtype=torch.int64)).backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
print(json.dumps(num_started))
