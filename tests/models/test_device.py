import pytest
import torch

from ablation.common.errors import InvalidInput
from ablation.models.device import choose_device, enough_memory


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def has(num_cuda: int, mps: bool, usable: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: usable and num_cuda > 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(
    ("num_cuda", "mps", "name", "device"),
    [
        (0, False, "auto", "cpu"),
        (0, True, "auto", "mps"),
        (2, False, "auto", "cuda:0"),
        (2, True, "auto", "cuda:0"),
        (2, False, "cuda", "cuda:0"),
        (2, False, "cuda:1", "cuda:1"),
        (2, True, "mps", "mps"),
        (2, True, "cpu", "cpu"),
    ],
)
def test_choice(machine, num_cuda: int, mps: bool, name: str, device: str) -> None:
    machine(num_cuda, mps)
    assert choose_device(name) == torch.device(device)


def test_gpus_with_a_driver_that_torch_cannot_use_are_not_there(machine) -> None:
    machine(2, mps=False, usable=False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(InvalidInput, match="device cuda: not available on this machine; available: cpu, auto"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("num_cuda", "mps", "name", "available"),
    [
        (0, False, "cuda", "cpu"),
        (0, True, "cuda:0", "mps, cpu"),
        (0, False, "mps", "cpu"),
        (2, False, "cuda:2", "cuda:0, cuda:1, cpu"),
        (1, False, "gpu", "cuda:0, cpu"),
    ],
)
def test_missing_device_is_refused(machine, num_cuda: int, mps: bool, name: str, available: str) -> None:
    machine(num_cuda, mps)
    with pytest.raises(InvalidInput) as error:
        choose_device(name)
    assert str(error.value) == f"device {name}: not available on this machine; available: {available}, auto"


def test_the_cpu_is_chosen_without_a_look_at_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """That look may initialise CUDA, which no forked seed survives."""
    for name in ("device_count", "is_available", "init"):
        monkeypatch.setattr(torch.cuda, name, lambda: pytest.fail("asked for GPUs"))
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 90 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ],
)
def test_a_full_gpu_is_one_line_with_what_to_lower(words: str) -> None:
    with pytest.raises(InvalidInput) as caught, enough_memory(7, "evaluate.batch_size"):
        raise RuntimeError(words)
    assert str(caught.value).startswith("out of GPU memory with batch_size 7; lower evaluate.batch_size, ")


def test_a_full_memory_of_a_cpu_is_told_as_that() -> None:
    with pytest.raises(InvalidInput) as caught, enough_memory(7, "evaluate.batch_size"):
        torch.empty(2**60, dtype=torch.uint8, device="cpu")
    assert str(caught.value).startswith("out of memory with batch_size 7; lower evaluate.batch_size, ")


def test_what_is_our_own_mistake_keeps_its_traceback() -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as caught, enough_memory(7, "evaluate.batch_size"):
        raise error
    assert caught.value is error
