"""How the CPU kernels are compiled, loaded and recorded, and what happens without a compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ablation.common import sources
from ablation.common.errors import InvalidInput
from ablation.models import layers
from ablation.training import cpu_kernels
from ablation.training.backend import use_kernels, versions
from ablation.training.cpu_kernels import conv_pool

CPU = torch.device("cpu")


def test_simple_nn_trains_with_them_on_a_cpu_and_records_what_compiled_them(
    gcc, variant_params, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    use_kernels(variant_params("simple_nn"), CPU, 100)
    assert layers._cpu_kernel is conv_pool
    macros = subprocess.run(["gcc", "-dM", "-E", "-xc", os.devnull], capture_output=True, text=True).stdout
    version, lanes = versions()["gcc"].rsplit(", ", 1)
    assert f'__VERSION__ "{version}"' in macros and lanes in ("16 lanes", "8 lanes", "4 lanes")
    assert capsys.readouterr().err == ""


COMPILERS = {  # -> what the note says of them
    "absent": "[Errno 2] No such file or directory: 'absent'",
    "false": "false failed",
    "clang": 'cpu_kernels.c:9:2: error: "GCC is required"',
}


@pytest.mark.parametrize(("compiler", "reason"), COMPILERS.items())
def test_without_gcc_pytorch_takes_over_with_a_note(
    compiler, reason, no_kernels, tmp_path, variant_params, monkeypatch, capsys
) -> None:
    if compiler == "clang":
        stub = tmp_path / "clang"
        stub.write_text(f"#!/bin/sh\necho '{reason}' >&2\nexit 1\n")
        stub.chmod(0o755)
        compiler = str(stub)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CC", compiler)
    use_kernels(variant_params("simple_nn"), CPU, 100)
    assert layers._cpu_kernel is None and "gcc" not in versions()
    note = f"note: training with PyTorch's kernels, up to 2.4 times as slow ({reason})\n"
    assert capsys.readouterr().err == note
    assert list(tmp_path.rglob("*.so")) == []


@pytest.mark.parametrize(("name", "precision"), [("resnet20", "tf32"), ("simple_nn", "bf16")])
def test_a_network_that_they_do_not_serve_does_not_ask_for_gcc(
    name, precision, no_kernels, variant_params, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("CC", "absent")
    use_kernels(variant_params(name, precision=precision), CPU, 100)
    assert "gcc" not in versions() and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "line",
    [
        "error: error writing to kernels.o: No space left on device",
        "virtual memory exhausted: Cannot allocate memory",
        "cc1: out of memory allocating 65536 bytes after a total of 1 bytes",
        "gcc: fatal error: Killed signal terminated program cc1",
    ],
)
def test_what_may_pass_does_not_change_the_kernels(line, no_kernels, tmp_path, variant_params, monkeypatch) -> None:
    """With others, what was trained so far would be trained again, to different bits."""
    compiler = tmp_path / "gcc"
    compiler.write_text(f"#!/bin/sh\necho 'cpu_kernels.c: In a function:' >&2\necho '{line}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(InvalidInput, match=f"^could not compile the kernels of this project: {line}$"):
        use_kernels(variant_params("simple_nn"), CPU, 100)


def test_the_library_is_compiled_once_for_a_source_a_processor_and_flags(gcc, tmp_path, monkeypatch) -> None:
    def made() -> list[Path]:
        monkeypatch.setattr(cpu_kernels, "_library", None)
        cpu_kernels.load(tmp_path / "kernels")
        return sorted((tmp_path / "kernels").iterdir())

    (first,) = made()
    written = first.stat().st_mtime_ns
    assert made() == [first] and first.stat().st_mtime_ns == written
    for path in cpu_kernels.SOURCE.parent.glob("cpu_*.[ch]"):
        (tmp_path / path.name).write_text(path.read_text())
    with (tmp_path / "cpu_lanes.h").open("a") as header:
        header.write("/* another */\n")
    monkeypatch.setattr(cpu_kernels, "SOURCE", tmp_path / cpu_kernels.SOURCE.name)
    assert len(made()) == 2
    monkeypatch.setattr(cpu_kernels, "FLAGS", [*cpu_kernels.FLAGS, "-ffp-contract=off"])
    assert len(made()) == 3
    run = cpu_kernels._run
    monkeypatch.setattr(cpu_kernels, "_run", lambda *arguments: run(*arguments) + b"#define ANOTHER_PROCESSOR")
    assert len(made()) == 4


def test_their_source_is_code_of_a_process_that_has_imported_them() -> None:
    code = set(cpu_kernels.SOURCE.parent.glob("cpu_*.[ch]"))
    assert len(code) == 4 and code <= set(sources.loaded()) and code <= set(sources.digests())


@pytest.mark.parametrize("part", ["forward", "backward"])
def test_they_use_torchs_threads(part, gcc, kernels_folder) -> None:
    """And no OpenMP runtime of their own: the library is not linked against one."""
    code = f"""
import os, torch
from pathlib import Path
from ablation.training import cpu_kernels
cpu_kernels.load(Path({str(kernels_folder)!r}))
input, conv = torch.ones(64, 1, 3, 3), torch.nn.Conv2d(1, 1, 2)
def started(num_threads, work):
    torch.set_num_threads(num_threads)
    before = os.listdir("/proc/self/task")
    result = work()
    return result, len(os.listdir("/proc/self/task")) - len(before)
first, second = {(2, 2) if part == "forward" else (1, 2)}
output, in_forward = started(first, lambda: cpu_kernels.conv_pool(input, conv, None, 0.0))
_, in_backward = started(second, lambda: torch.autograd.grad(output, conv.weight, torch.ones_like(output)))
libraries = {{line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line}}
print(in_forward, in_backward, len(libraries))"""
    environment = os.environ | {"PYTHONPATH": str(Path(sources.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == ("1 0 1\n" if part == "forward" else "0 1 1\n")
