from collections.abc import Iterator

import pytest
import torch

from ablation.models.layers import without_kernels

torch.set_num_threads(1)  # tests run side by side, and threads that wait for a busy core cost more than they bring


@pytest.fixture(autouse=True)
def kernels_of_pytorch() -> Iterator[None]:
    """What prepares a device lets networks train with other kernels; that ends with its test."""
    with without_kernels():
        yield
