"""Which checkpoint a variant's stage takes for a seed, and when it writes one."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from ablation.common import sources
from ablation.common.errors import InvalidInput
from ablation.data.splits import Normalization, read_split, write_split
from ablation.models.device import choose_device, cpu_model
from ablation.training import checkpoint, loop, variant
from ablation.training.backend import versions
from ablation.training.batches import load_data
from ablation.training.clock import Clock
from ablation.training.params import VariantParams
from ablation.training.variant import train_variant
from tests.training.conftest import STATISTICS, checkpoints, train


def outcome(project: Path, variant: str = "test") -> dict[str, bytes]:
    folder = project / "runs" / variant
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("lr", [0.1, 1e4])
def test_a_finished_seed_is_not_trained_again(
    lr: float, variant_params, project: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Whatever its variant and device are called, and with other seeds: as after a kill before DVC recorded it."""
    train(variant_params("simple_nn_bn", lr=lr), project)
    first = outcome(project)
    shutil.rmtree(project / "runs")
    capsys.readouterr()

    device = "auto" if choose_device("auto").type == "cpu" else "cpu"
    again = variant_params("simple_nn_bn", lr=lr, device=device, seeds=[0, 1], checkpoint_every_epochs=7)
    monkeypatch.setattr(variant, "num_processes", lambda *_: 1)
    train_variant(again, project / "data/splits", project / "runs/other")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "other seed 0 already finished: restored from its checkpoint"
    assert not any(line.startswith("other seed 0 epoch") for line in lines)
    assert any(line.startswith("other seed 1 epoch 1/2") for line in lines)
    second = outcome(project, "other")
    facts = "metrics/seed-0/run.json"
    assert json.loads(second[facts]) == json.loads(first.pop(facts)) | {"variant": "other"}
    assert first and {name: second[name] for name in first} == first  # its seconds as well


@pytest.mark.parametrize("what", ["code", "data", "device"])
def test_another_runs_checkpoint_is_not_taken(what, params, project, val_split, monkeypatch, capsys) -> None:
    train(params, project)
    capsys.readouterr()
    if what == "code":
        (project / "code.py").write_text("changed = True\n")
        monkeypatch.setattr(variant, "loaded", lambda: [project / "code.py"])
    elif what == "data":
        write_split(project / "data/splits/val.safetensors", val_split.images, 9 - val_split.labels)
    else:
        monkeypatch.setattr(variant, "describe", lambda device: "another")
    train(params, project)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("test seed 0 epoch 1/2 ")


def test_the_key_knows_all_that_bits_may_depend_on(params: VariantParams, project: Path, monkeypatch) -> None:
    keyed = {}
    key = checkpoint.key
    monkeypatch.setattr(
        checkpoint, "key", lambda settings, files: keyed.update(settings=settings, files=files) or key(settings, files)
    )
    train(params, project)
    without = {"seeds", "device", "checkpoint_every_epochs"}  # the seed is the folder's name, the device is `on`
    assert keyed["settings"] == params.model_dump(exclude=without) | {"on": f"cpu ({cpu_model()})"} | versions()
    assert {"torch", "cpu_capability", "python"} <= versions().keys()
    names = {path.name for path in keyed["files"]}
    splits = {"train.safetensors", "val.safetensors", "statistics.json"}
    assert names >= splits | {"train.py", "loop.py", "simple_nn.py", "augmentation.py", "files.py"}


def test_a_checkpoint_of_other_versions_is_not_taken(params: VariantParams, project: Path, monkeypatch) -> None:
    train(params, project)
    monkeypatch.setattr(torch, "__version__", "99.0.0")
    train(params, project)
    monkeypatch.setattr(variant, "versions", lambda: {**versions(), "gcc": "3.0"})
    train(params, project)
    assert len(list((project / ".dvc/tmp/checkpoints").iterdir())) == 3
    facts = json.loads((project / "runs/test/metrics/seed-0/run.json").read_text())
    assert facts["versions"]["torch"] == "99.0.0" and facts["versions"]["gcc"] == "3.0"


def test_the_key_knows_the_code_that_a_device_needs(params: VariantParams, project: Path, monkeypatch) -> None:
    """Preparing a GPU loads the kernels."""
    order = []
    monkeypatch.setattr(variant, "prepare", lambda *_: order.append("prepare") or torch.device("cpu"))
    monkeypatch.setattr(variant, "loaded", lambda: order.append("loaded") or [])
    train(params, project)
    assert order == ["prepare", "loaded"]


def test_code_that_changed_since_it_was_imported_does_not_get_a_checkpoint(params, project: Path, monkeypatch) -> None:
    """Its key would be that of the new code, and the next run would take it for the new code's."""
    sources.remember()
    sources._at_start[Path(loop.__file__).resolve()] = "another digest"
    with pytest.raises(InvalidInput, match=r"loop\.py: changed while this stage ran"):
        train(params, project)
    assert checkpoints(project) == []


def test_checkpoints_are_due_every_so_many_epochs(variant_params, project, monkeypatch) -> None:
    """A further case of test_checkpoints_take_little_of_a_seeds_own_time."""
    saved: list[int] = []
    monkeypatch.setattr(checkpoint, "save", lambda folder, epoch, state: saved.append(epoch))
    train(variant_params("simple_nn", augmentation="none", epochs=5, checkpoint_every_epochs=2), project)
    assert saved in ([2, 4, 5], [2, 5])


@pytest.mark.parametrize(("speed", "epochs"), [(1e-6, [1, 4]), (1e6, [1, 2, 3, 4])])
def test_checkpoints_take_little_of_a_seeds_own_time(
    speed: float, epochs: list[int], variant_params, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed that shares a process with others has a clock slower than the wall clock: here one nearly stands still."""
    params = variant_params("simple_nn", augmentation="none", epochs=4)
    saved: list[int] = []

    def save(folder: Path, epoch: int, state: object) -> None:
        saved.append(epoch)
        time.sleep(0.01)

    monkeypatch.setattr(checkpoint, "save", save)
    inputs = [read_split(project / f"data/splits/{name}.safetensors") for name in ("train", "val")]
    data = load_data(*inputs, Normalization.of(STATISTICS, 32), params, torch.device("cpu"))
    clock = Clock(lambda: speed * time.monotonic())
    steps = variant.train_seed(params, data, project / "out", project / "saved", clock, 0)
    assert len(list(steps)) == 4 * 7  # batches of 16 of 100 images
    assert saved == epochs
