"""Preparing a device: the kernels that networks train with there, and how PyTorch's compute."""

import pkgutil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ablation.models import layers
from ablation.training import backend
from ablation.training.backend import precision, prepare, use_kernels, versions


def stand_in(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv2d(input, weight, stride=stride, padding=padding, groups=input.shape[1] // weight.shape[1])


@pytest.fixture
def able(monkeypatch) -> torch.device:
    """A device that stands in for a GPU with tf32, and PyTorch's kernels for this project's."""
    monkeypatch.setattr(backend, "has_tf32", lambda device: True)
    monkeypatch.setattr(layers, "_trains_on_gpu", lambda input: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # else a convolution is PyTorch's
    pytest.importorskip("triton")
    monkeypatch.setattr("ablation.training.gpu_convolution.conv2d", stand_in)
    monkeypatch.setattr("ablation.training.gpu_depthwise.depthwise_conv2d", stand_in)
    monkeypatch.setattr("ablation.training.gpu_batch_norm.batch_norm", lambda x, bn, *_: bn(x))
    return torch.device("meta")


def test_a_gpu_trains_with_them_and_records_tritons_version(able, variant_params, capsys) -> None:
    use_kernels(variant_params("resnet20_dws"), able, 100)
    assert layers._gpu_kernels.conv2d is stand_in and layers._cpu_kernel is None
    assert versions()["triton"] == triton_version()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("num_images", "sizes"), [(100, {16, 4}), (64, {16}), (12, {12})])
def test_they_are_tried_out_on_a_batch_and_on_the_last_one_of_an_epoch(
    num_images, sizes, able, variant_params, monkeypatch
) -> None:
    tried = set()

    def stand_in_that_counts(input: Tensor, *arguments: Tensor) -> Tensor:
        tried.add(len(input))
        return stand_in(input, *arguments)

    monkeypatch.setattr("ablation.training.gpu_convolution.conv2d", stand_in_that_counts)
    use_kernels(variant_params("resnet20"), able, num_images)
    assert tried == sizes


def triton_version() -> str:
    import triton

    return triton.__version__


class Fails(torch.autograd.Function):
    """In the backward pass."""

    @staticmethod
    def forward(ctx, x, error) -> Tensor:
        ctx.error = error
        return x.clone()

    @staticmethod
    def backward(ctx, grad_output) -> Tensor:
        raise ctx.error


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to find C compiler.\nPlease"), ImportError("no triton"), ValueError()]
)
@pytest.mark.parametrize(
    "kernel", ["gpu_convolution.conv2d", "gpu_depthwise.depthwise_conv2d", "gpu_batch_norm.batch_norm"]
)
@pytest.mark.parametrize("backward", [False, True])
def test_where_one_fails_pytorchs_take_over_with_a_note(
    backward, kernel, error, able, variant_params, monkeypatch, capsys
) -> None:
    works = pkgutil.resolve_name(f"ablation.training.{kernel.replace('.', ':')}")

    def fails(*arguments: object) -> Tensor:
        if backward:
            return Fails.apply(works(*arguments), error)
        raise error

    monkeypatch.setattr(f"ablation.training.{kernel}", fails)
    use_kernels(variant_params("resnet20_dws"), able, 100)
    assert layers._gpu_kernels is None and "triton" not in versions()
    note = "note: training with PyTorch's kernels, up to 2.4 times as slow"
    assert capsys.readouterr().err == f"{note} ({(str(error) or repr(error)).splitlines()[0]})\n"


@pytest.mark.parametrize(
    "words", ["CUDA out of memory. Tried to allocate 90 GiB", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"]
)
def test_a_full_gpu_does_not_change_the_kernels(words, able, variant_params, monkeypatch) -> None:
    """With others, what was trained so far would be trained again, to different bits."""

    def fails(*_: object) -> Tensor:
        raise RuntimeError(words)

    monkeypatch.setattr("ablation.training.gpu_convolution.conv2d", fails)
    with pytest.raises(RuntimeError, match=words):
        use_kernels(variant_params("resnet20"), able, 100)


def test_a_device_without_tf32_has_nothing_to_gain(variant_params, monkeypatch, capsys) -> None:
    monkeypatch.setattr(backend, "_compilers", {"triton": "of the device before"})
    use_kernels(variant_params("resnet20"), torch.device("meta"), 100)
    assert layers._gpu_kernels is None and "triton" not in versions()
    assert capsys.readouterr().err == ""


def test_a_compiled_network_records_the_compiler_of_a_cpu(variant_params, tmp_path, monkeypatch) -> None:
    """Without one it stays uncompiled, and has other bits."""
    from torch._inductor import cpp_builder, exc

    def missing() -> str:
        raise exc.InvalidCxxCompiler

    stub = tmp_path / "g++"
    stub.write_text("#!/bin/sh\necho 'g++ 12.2.0'\necho 'a second line'\n")
    stub.chmod(0o755)
    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", lambda: str(stub))
    prepare(variant_params("resnet20", compile=True, device="cpu"), 100)
    assert versions()["c++"] == "g++ 12.2.0"
    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    prepare(variant_params("resnet20", compile=True, device="cpu"), 100)
    assert versions()["c++"] == "none"
    prepare(variant_params("resnet20", device="cpu"), 100)
    assert "c++" not in versions()


@pytest.mark.parametrize(
    ("capability", "hip", "expected"),
    [((9, 0), None, "tf32"), ((8, 0), None, "tf32"), ((7, 5), None, "fp32"), ((11, 0), "7.0", "fp32")],
)
def test_tf32_is_recorded_where_a_gpu_has_it(capability, hip, expected, variant_params, monkeypatch) -> None:
    """AMD GPUs, which have a HIP version, number their compute capability differently."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert precision(variant_params(), torch.device("cuda:0")) == expected
    assert precision(variant_params(precision="fp32"), torch.device("cuda:0")) == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_preparing_a_gpu_chooses_them_and_how_pytorchs_compute(
    deterministic, precision, variant_params, monkeypatch
) -> None:
    gpu, chosen = torch.device("cuda:0"), []
    monkeypatch.setattr(backend, "choose_device", lambda name: gpu)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(backend, "has_tf32", lambda device: True)
    monkeypatch.setattr(backend, "use_kernels", lambda params, device, num_images: chosen.append(device))
    flags = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]
    flags += [(torch.backends.cudnn, "benchmark"), (torch.utils.deterministic, "fill_uninitialized_memory")]
    before, mode = [getattr(*flag) for flag in flags], torch.get_deterministic_debug_mode()
    try:
        assert prepare(variant_params(device="cuda", precision=precision, deterministic=deterministic), 100) == gpu
        assert chosen == [gpu]
        tf32 = precision == "tf32"
        assert [getattr(*flag) for flag in flags] == [tf32, tf32, not deterministic, False]
        assert torch.get_deterministic_debug_mode() == (1 if deterministic else 0)
    finally:
        torch.set_deterministic_debug_mode(mode)
        for flag, value in zip(flags, before, strict=True):
            setattr(*flag, value)
