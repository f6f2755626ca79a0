import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablation.common import sources
from ablation.models.layers import without_kernels
from ablation.training import backend

# Of the processes that tests start: this checkout's code, and no repository of a git hook that runs the tests.
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1] / "src")
for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE"):
    os.environ.pop(name, None)

torch.set_num_threads(1)  # tests run side by side, and threads that wait for a busy core cost more than they bring


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(autouse=True)
def as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stage notes its code, and what prepares a device lets networks train with other kernels: until a test ends."""
    monkeypatch.setattr(sources, "_at_start", {})
    monkeypatch.setattr(backend, "_compilers", {})
    with without_kernels():
        yield
