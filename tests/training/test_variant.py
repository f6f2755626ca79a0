"""A variant's stage, from the splits on disk to its results there, and how it ends on errors."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ablation.common.errors import InvalidInput
from ablation.common.settings import read_yaml
from ablation.data.splits import Normalization
from ablation.models.device import cpu_model
from ablation.models.weights import load_weights
from ablation.training import loop, variant
from ablation.training.backend import prepare
from ablation.training.batches import load_data
from ablation.training.clock import Clock
from ablation.training.cost import activation_bytes, multiply_adds
from ablation.training.loop import new_run, train_epochs
from ablation.training.params import VariantParams
from tests.training.conftest import STATISTICS, checkpoints, train

PROJECT = Path(__file__).parents[2]


def test_what_another_process_still_writes_for_the_variant_is_waited_for_and_removed(project: Path, capsys) -> None:
    """A stage outlives DVC if DVC alone is killed; the next one may have other settings and fewer seeds."""
    orphan = """
import sys, time
from pathlib import Path
from ablation.training.variant import alone_in
with alone_in(Path("runs/test")):
    print("held", flush=True)
    time.sleep(2)
    for name in ("weights/seed-0.safetensors", "weights/seed-7.safetensors", "timing/seed-0/metrics.json"):
        Path("runs/test", name).parent.mkdir(parents=True, exist_ok=True)
        Path("runs/test", name).write_text("of other settings")
"""
    with subprocess.Popen([sys.executable, "-c", orphan], stdout=subprocess.PIPE, text=True, cwd=project) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with variant.alone_in(project / "runs/test"):
            assert other.wait() == 0
            assert not any(path.is_file() for path in (project / "runs").rglob("*"))
    assert f"note: process {other.pid} trains this variant or the same settings; waiting" in capsys.readouterr().err


def test_weights_that_another_run_has_left_are_removed(params: VariantParams, project: Path) -> None:
    (project / "runs/test/weights").mkdir(parents=True)
    (project / "runs/test/weights/seed-7.safetensors").write_text("of a seed that the variant no longer has")
    train(params, project)
    assert [path.name for path in (project / "runs/test/weights").iterdir()] == ["seed-0.safetensors"]


def test_it_leaves_facts_gradients_weights_and_the_last_checkpoint(params: VariantParams, project: Path) -> None:
    train(params, project)
    metrics = project / "runs/test/metrics/seed-0"
    facts = json.loads((metrics / "run.json").read_text())
    assert (facts["variant"], facts["seed"], facts["epochs"]) == ("test", 0, 2)
    assert facts["device"] == f"cpu ({cpu_model()})"
    assert (facts["precision"], params.precision) == ("fp32", "tf32")  # which a CPU does not have
    assert facts["parameters"] == 82_030 + 2 * (8 + 16)
    assert facts["multiply_adds"] == multiply_adds(params.model)
    assert facts["activation_bytes"] == activation_bytes(params.model)
    gradients = json.loads((metrics / "gradients.json").read_text())
    assert gradients["layers"] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [len(epoch) for epoch in gradients["epochs"]] == [5, 5] and min(map(min, gradients["epochs"])) > 0
    assert (metrics / "plots/metrics/train/batch_loss_sd.tsv").read_text().startswith("step\tbatch_loss_sd\n1\t")
    assert (project / "runs/test/weights/seed-0.safetensors").is_file()
    assert checkpoints(project) == ["epoch-000002.pt"]


@pytest.mark.parametrize(("compile", "imported"), [(False, []), (True, ["torch._dynamo"])])
def test_a_stage_does_not_import_what_it_does_not_need(compile, imported, variant_params, project: Path) -> None:
    """torch's compiler takes a second, torchvision and matplotlib take several."""
    if compile and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    params = variant_params("simple_nn_bn", compile=compile)
    (project / "params.json").write_text(params.model_dump_json())
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ablation.training.params import VariantParams\n"
        "from ablation.training.variant import train_variant\n"
        "params = VariantParams.model_validate_json(Path('params.json').read_text())\n"
        "train_variant(params, Path('data/splits'), Path('runs/test'))\n"
        "slow = ['torch._dynamo', 'torchvision', 'matplotlib', 'altair', 'scipy', 'sklearn', 'statsmodels', 'PIL']\n"
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(imported)
    assert "could not compile" not in done.stderr


@pytest.mark.parametrize("name", read_yaml(PROJECT / "params.yaml")["study"])
def test_every_variant_of_the_default_study_comes_to_its_end(name: str, variant_params, project: Path) -> None:
    train(variant_params(name, epochs=1), project)
    model = load_weights(project / "runs/test/weights/seed-0.safetensors")
    facts = json.loads((project / "runs/test/metrics/seed-0/run.json").read_text())
    assert facts["epochs"] == facts["best_epoch"] == 1
    assert facts["parameters"] == sum(weights.numel() for weights in model.parameters())


def test_gradients_that_are_not_finite_are_null(variant_params, project: Path) -> None:
    train(variant_params("simple_nn", lr=1e4, epochs=5), project)
    epochs = json.loads((project / "runs/test/metrics/seed-0/gradients.json").read_text())["epochs"]
    assert None not in epochs[0]
    facts = json.loads((project / "runs/test/metrics/seed-0/run.json").read_text())
    assert facts["diverged_epoch"] == facts["epochs"] == len(epochs) < 5


@pytest.mark.parametrize("function", ["prepare", "load_data", "train_epochs"])
def test_a_full_gpu_is_one_line_with_what_to_lower(
    params: VariantParams, project: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB\nand advice")

    monkeypatch.setattr(variant, function, fill)
    with pytest.raises(InvalidInput) as caught:
        train(params, project)
    assert str(caught.value) == (
        "out of GPU memory with batch_size 16; lower variants.test.batch_size (or train.batch_size, if the variant "
        "does not set it), or stop other programs that use the GPU"
    )


def run_stage(params: VariantParams, project: Path, prefix: tuple[str, ...] = (), **options: Any) -> Any:
    """The stage in a process of its own: thread pools started before a fork would hang for ever."""
    (project / "configs/train").mkdir(parents=True)
    (project / "configs/train/test.yaml").write_text(yaml.safe_dump(params.model_dump()))
    return subprocess.run(
        [sys.executable, *prefix, str(PROJECT / "stages/train.py"), "test"],
        timeout=300,
        **options,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="seeds run side by side on Linux only")
def test_seeds_of_several_threads_come_to_their_end(variant_params, project: Path) -> None:
    four_cores = "import os, runpy, sys; os.sched_getaffinity = lambda pid: range(4); sys.argv = sys.argv[1:]; "
    prefix = ("-c", four_cores + "runpy.run_path(sys.argv[0], run_name='__main__')")
    run_stage(variant_params("simple_nn_aug", num_threads=2, seeds=[0, 1]), project, prefix, check=True)
    assert (project / "runs/test/weights/seed-1.safetensors").is_file()


def test_a_disk_without_room_is_one_line_with_the_path(params: VariantParams, project: Path) -> None:
    """A file-size limit stands in for a full disk: a checkpoint is larger, all else is smaller."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    ended = run_stage(params, project, preexec_fn=limit, capture_output=True, text=True)
    assert ended.returncode == 1
    *notes, line = ended.stderr.splitlines()
    assert all(note.startswith("note: ") for note in notes), ended.stderr  # one where there is no GCC
    assert line.startswith("error: ") and "seed-0/epoch-000001.pt: File too large" in line


def test_a_seed_leaves_what_its_run_alone_would(variant_params, project, train_split, val_split, monkeypatch) -> None:
    params = variant_params("simple_nn_bn", augmentation="none", epochs=4, seeds=[0, 3])
    run_stage(params, project, check=True)
    monkeypatch.chdir(project)
    prepare(params, 100)  # the same kernels
    data = load_data(train_split, val_split, Normalization.of(STATISTICS, 32), params, torch.device("cpu"))
    for seed in params.seeds:
        run = new_run(params, seed, data)
        deque(train_epochs(run, params, seed, data, Clock()), maxlen=0)
        saved = load_weights(project / f"runs/test/weights/seed-{seed}.safetensors").state_dict()
        assert all(torch.equal(saved[name], tensor) for name, tensor in run.best_weights.items())
        metrics = project / f"runs/test/metrics/seed-{seed}"
        facts = json.loads((metrics / "run.json").read_text())
        assert facts["seed"] == seed
        best = run.epochs[run.best_epoch - 1]
        assert (facts["best_epoch"], facts["best_val_accuracy"]) == (run.best_epoch, best.val_accuracy)
        assert facts["first_batch_loss"] == run.first_batch_loss
        gradients = json.loads((metrics / "gradients.json").read_text())["epochs"]
        assert gradients == [epoch.gradient_norms for epoch in run.epochs]


def test_the_weights_kept_are_those_of_the_best_epoch(variant_params, project, monkeypatch) -> None:
    accuracies = iter([0.5, 0.5, 0.4])  # of a one-epoch run, then of a two-epoch run that begins alike
    monkeypatch.setattr(loop, "validate", lambda *_: (1.0, next(accuracies)))
    weights = []
    for epochs in (1, 2):
        train(variant_params("simple_nn_bn", augmentation="none", epochs=epochs), project)
        weights.append(load_weights(project / "runs/test/weights/seed-0.safetensors").state_dict())
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    facts = json.loads((project / "runs/test/metrics/seed-0/run.json").read_text())
    assert (facts["epochs"], facts["best_epoch"], facts["best_val_accuracy"]) == (2, 1, 0.5)


def test_a_seed_has_its_threads_and_says_so(variant_params, project, monkeypatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    train(variant_params("simple_nn", num_threads=3, epochs=1), project)
    assert asked[-1] == 3
    assert json.loads((project / "runs/test/metrics/seed-0/run.json").read_text())["num_threads"] == 3


def test_the_line_of_an_epoch_has_its_figures(params, project, capsys) -> None:
    train(params, project)
    folder = project / "runs/test/metrics/seed-0/plots/metrics"
    names = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
    last = [float((folder / f"{name}.tsv").read_text().split()[-1]) for name in names]
    told = "train loss {:.4f} accuracy {:.2%}  val loss {:.4f} accuracy {:.2%}  lr 0.01".format(*last)
    assert told in capsys.readouterr().out.splitlines()[-1]
