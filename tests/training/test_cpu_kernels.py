"""SimpleNN's convolutions by `cpu_kernels.c`, with the vectors of this processor and with shorter ones."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ablation.common import sources
from ablation.models import convolution
from ablation.training import backend, cpu_kernels
from ablation.training.backend import use_kernels, versions
from ablation.training.cpu_kernels import convolve

SHAPES = {  # channels, height, width, filters, their size
    "simple_nn.conv1": (3, 32, 32, 8, 5),
    "simple_nn.conv2": (8, 14, 14, 16, 3),
    "odd": (5, 11, 8, 7, 2),  # maps of 10 x 7: the last column has no window
    "pointwise": (2, 3, 4, 1, 1),
}
CPU = torch.device("cpu")
needs_gcc = pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="needs GCC")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not loaded them yet, for the usual compiler."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(cpu_kernels, "_library", None)
    monkeypatch.setattr(backend, "_compilers", {})


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(params=["native", "x86-64-v3", "x86-64-v2"])  # the latter without AVX
def kernels(request: pytest.FixtureRequest, fresh: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "native" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("needs an x86 processor with AVX2")
    monkeypatch.setattr(cpu_kernels, "FLAGS", [*cpu_kernels.FLAGS, f"-march={request.param}"])
    cpu_kernels.load(folder)


@pytest.fixture
def threads() -> Iterator[None]:
    """Their number, which a test may set."""
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def inputs(shape: str, num_images: int, whole: bool) -> list[Tensor]:
    """Input, weight and bias; `whole` numbers, of which every sum is exact and many are equal."""
    channels, height, width, filters, size = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(shape, generator=generator)
        for shape in ((num_images, channels, height, width), (filters, channels, size, size), (filters,))
    ]
    return [(t.round() if whole else t).requires_grad_() for t in tensors]


def with_gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Output and gradients for a gradient in it of whole numbers, not in the channels-last format."""
    generator = torch.Generator().manual_seed(1)
    grad_output = torch.randint(-4, 5, output.shape, generator=generator).to(output.dtype)
    return [output, *torch.autograd.grad(output, inputs, grad_output)]


def expected(input: Tensor, weight: Tensor, bias: Tensor, slope: float | None) -> Tensor:
    output = F.conv2d(input, weight, bias)
    if slope is None:
        return output
    maxima = F.max_pool2d(output, 2)
    return F.leaky_relu(maxima, slope) if slope else F.relu(maxima)


@needs_gcc
@pytest.mark.parametrize("slope", [None, 0.0, 0.25])
@pytest.mark.parametrize("num_images", [1, 16, 37])
@pytest.mark.parametrize("shape", SHAPES)
def test_they_equal_pytorchs_on_whole_numbers(shape, num_images, slope, kernels) -> None:
    """Ties, zeros and windows without a positive value included."""
    tensors = inputs(shape, num_images, whole=True)
    ours = with_gradients(convolve(*tensors, slope), tensors)
    theirs = with_gradients(expected(*tensors, slope), tensors)
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@needs_gcc
@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_as_exact_as_float32_allows(shape, kernels) -> None:
    tensors = inputs(shape, 128, whole=False)
    doubles = [t.detach().double().requires_grad_() for t in tensors]
    ours = with_gradients(convolve(*tensors, None), tensors)
    for a, b in zip(ours, with_gradients(expected(*doubles, None), doubles), strict=True):
        assert (a.double() - b).norm() < 1e-6 * b.norm()


@needs_gcc
def test_threads_and_repetition_leave_the_bits_alone(kernels, threads) -> None:
    tensors = inputs("simple_nn.conv2", 100, whole=False)
    results = []
    for num_threads in (1, 2, 2, 5):
        torch.set_num_threads(num_threads)
        results.append(with_gradients(convolve(*tensors, 0.0), tensors))
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


@needs_gcc
@pytest.mark.parametrize("slope", [0.0, 0.25])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_goes_where_pytorch_lets_it_go(value, slope, kernels) -> None:
    tensors = inputs("simple_nn.conv2", 2, whole=True)
    with torch.no_grad():
        tensors[0][1, 3, 5, 7] = value
        tensors[2][0] = -float("inf")  # of a filter that is never active
    ours, theirs = (with_gradients(f(*tensors, slope), tensors) for f in (convolve, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@needs_gcc
def test_memory_format_and_gradients_that_nobody_asks_for(kernels) -> None:
    tensors = inputs("simple_nn.conv1", 20, whole=True)
    _, _, *grads = with_gradients(convolve(*tensors, 0.0), tensors)
    input, weight, bias = tensors
    input = input.detach().contiguous(memory_format=torch.channels_last)
    weight = weight.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    _, *others = with_gradients(convolve(input, weight, bias, 0.0), [weight, bias])
    assert all(torch.equal(a, b) for a, b in zip(grads, others, strict=True))
    assert others[0].is_contiguous(memory_format=torch.channels_last)


@needs_gcc
def test_a_weight_that_changes_before_the_backward_pass_is_noticed(kernels) -> None:
    input, weight, bias = inputs("simple_nn.conv1", 2, whole=True)
    weight = weight.detach().contiguous(memory_format=torch.channels_last).requires_grad_()  # as in training
    output = convolve(input, weight, bias, 0.0)
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@needs_gcc
def test_a_second_derivative_is_refused(kernels) -> None:
    tensors = inputs("odd", 2, whole=True)
    output = convolve(*tensors, 0.0)
    grad_output = torch.ones_like(output, requires_grad=True)
    (gradient,) = torch.autograd.grad(output, tensors[1], grad_output, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@needs_gcc
def test_a_cpu_trains_with_them_and_records_what_compiled_them(fresh, capsys) -> None:
    use_kernels(CPU)
    assert convolution._cpu_kernel is convolve
    macros = subprocess.run(["gcc", "-dM", "-E", "-xc", os.devnull], capture_output=True, text=True).stdout
    version, lanes = versions()["gcc"].rsplit(", ", 1)
    assert f'__VERSION__ "{version}"' in macros and lanes in ("16 lanes", "8 lanes", "4 lanes")
    assert capsys.readouterr().err == ""


COMPILERS = {  # -> what the note says of them
    "absent": "[Errno 2] No such file or directory: 'absent'",
    "false": "false failed",
    "clang": '<stdin>:9:2: error: "GCC is needed"',
}


@pytest.mark.parametrize(("compiler", "reason"), COMPILERS.items())
def test_without_gcc_pytorch_takes_over_with_a_note(compiler, reason, fresh, tmp_path, monkeypatch, capsys) -> None:
    if compiler == "clang":
        stub = tmp_path / "clang"
        stub.write_text(f"#!/bin/sh\necho '{reason}' >&2\nexit 1\n")
        stub.chmod(0o755)
        compiler = str(stub)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CC", compiler)
    use_kernels(CPU)
    assert convolution._cpu_kernel is None and "gcc" not in versions()
    note = f"note: convolutions by PyTorch's kernels, SimpleNN is up to 2.2 times as slow ({reason})\n"
    assert capsys.readouterr().err == note
    assert list(tmp_path.rglob("*.so")) == []


@needs_gcc
def test_the_library_is_compiled_once_for_a_source_a_processor_and_flags(fresh, tmp_path, monkeypatch) -> None:
    def made() -> list[Path]:
        monkeypatch.setattr(cpu_kernels, "_library", None)
        cpu_kernels.load(tmp_path / "kernels")
        return sorted((tmp_path / "kernels").iterdir())

    (first,) = made()
    written = first.stat().st_mtime_ns
    assert made() == [first] and first.stat().st_mtime_ns == written
    source = tmp_path / "other.c"
    source.write_text(cpu_kernels.SOURCE.read_text() + "/* another */\n")
    monkeypatch.setattr(cpu_kernels, "SOURCE", source)
    assert len(made()) == 2
    monkeypatch.setattr(cpu_kernels, "FLAGS", [*cpu_kernels.FLAGS, "-ffp-contract=off"])
    assert len(made()) == 3
    run = cpu_kernels._run
    monkeypatch.setattr(cpu_kernels, "_run", lambda *arguments: run(*arguments) + b"#define ANOTHER_PROCESSOR")
    assert len(made()) == 4


def test_their_source_is_code_of_a_process_that_has_imported_them() -> None:
    assert cpu_kernels.SOURCE in sources.loaded() and cpu_kernels.SOURCE in sources.digests()


@needs_gcc
@pytest.mark.parametrize("part", ["forward", "backward"])
def test_they_use_torchs_threads(part, folder) -> None:
    """And no OpenMP of their own, which the library is linked without."""
    code = f"""
import os, torch
from pathlib import Path
from ablation.training import cpu_kernels
cpu_kernels.load(Path({str(folder)!r}))
input, weight, bias = torch.ones(64, 1, 3, 3), torch.ones(1, 1, 2, 2, requires_grad=True), torch.zeros(1)
def started(num_threads, work):
    torch.set_num_threads(num_threads)
    before = os.listdir("/proc/self/task")
    result = work()
    return result, len(os.listdir("/proc/self/task")) - len(before)
first, second = {(2, 2) if part == "forward" else (1, 2)}
output, in_forward = started(first, lambda: cpu_kernels.convolve(input, weight, bias, None))
_, in_backward = started(second, lambda: torch.autograd.grad(output, weight, torch.ones_like(output)))
libraries = {{line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line}}
print(in_forward, in_backward, len(libraries))"""
    environment = os.environ | {"PYTHONPATH": str(Path(sources.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == ("1 0 1\n" if part == "forward" else "0 1 1\n")
