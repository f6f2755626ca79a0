"""All seeds of one variant: from the splits on disk to weights, curves and facts on disk."""

import functools
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ablation.common.errors import check_code
from ablation.common.files import write_json
from ablation.common.sources import loaded
from ablation.data.splits import Normalization, read_num_images, read_split, read_statistics
from ablation.models.device import describe, enough_memory
from ablation.models.weights import save_weights
from ablation.training import checkpoint
from ablation.training.backend import precision, prepare, versions
from ablation.training.batches import Data, load_data
from ablation.training.clock import Clock, epoch_clock
from ablation.training.cost import activation_bytes, multiply_adds
from ablation.training.curves import Curves
from ablation.training.loop import Epoch, Run, new_run, train_epochs
from ablation.training.params import VariantParams
from ablation.training.processes import num_processes, run_in_processes
from ablation.training.step import weight_layers
from ablation.training.streams import run_on_streams

CHECKPOINT_SHARE = 0.02  # of the time, at most, is spent on saving


def train_variant(params: VariantParams, splits: Path, output: Path) -> None:
    """Train every seed of `params`, resuming from the checkpoints of an earlier, identical run.

    splits: folder of {train,val}.safetensors and statistics.json. output: a folder named after the variant; gets
    weights/, metrics/ and timing/, with an entry per seed.
    """
    setting = f"variants.{output.name}.batch_size (or train.batch_size, if the variant does not set it)"
    inputs = [splits / name for name in ("train.safetensors", "val.safetensors", "statistics.json")]
    statistics, num_images = read_statistics(inputs[2]), read_num_images(inputs[2])
    with enough_memory(params.batch_size, setting):
        device = prepare(params, num_images["train"])
    code = loaded()  # including what this device needs
    # What is excluded does not affect a seed's result.
    settings = params.model_dump(exclude={"seeds", "device", "checkpoint_every_epochs"})
    identity = checkpoint.key({**settings, "on": describe(device), **versions()}, [*code, *inputs])
    check_code()  # the code on disk, and in the key, is what was imported
    with alone_in(output), checkpoint.claimed(checkpoint.root() / identity, params.seeds) as folder:
        train, val = read_split(inputs[0]), read_split(inputs[1])
        normalization = Normalization.of(statistics, train.images.shape[-1])
        with enough_memory(params.batch_size, setting):
            data = load_data(train, val, normalization, params, device)
            steps = functools.partial(train_seed, params, data, output, folder)
            if device.type == "cuda":
                run_on_streams(steps, params.seeds, device)
            else:
                at_a_time = num_processes(len(params.seeds), params.num_threads) if device.type == "cpu" else 1
                clock = epoch_clock(device, params.num_threads, at_a_time)

                def train_whole(seed: int) -> None:
                    with enough_memory(params.batch_size, setting):  # a child's error does not reach the parent
                        for _ in steps(clock, seed):
                            pass

                run_in_processes(train_whole, params.seeds, at_a_time)


@contextmanager
def alone_in(output: Path) -> Iterator[None]:
    """Lock a variant's folder and clear it of training output; waits, with a note, while another process holds it.

    A stage outlives DVC if DVC alone is killed, and would keep writing in among the next stage's results.
    """
    with checkpoint.locked(Path(".dvc", "tmp", "training", output.name)):
        for part in ("weights", "metrics", "timing"):
            shutil.rmtree(output / part, ignore_errors=True)
        yield


def train_seed(
    params: VariantParams, data: Data, output: Path, checkpoints: Path, clock: Clock, seed: int
) -> Iterator[None]:
    """Train one seed to its end and write its results; yields after every step."""
    torch.set_num_threads(params.num_threads)
    name = f"seed-{seed}"
    run = new_run(params, seed, data)
    curves = Curves(output / "metrics" / name, output / "timing" / name)
    if state := checkpoint.load(checkpoints / name):
        run.restore(state)
        for trained in run.epochs:
            curves.log(trained)
        finished = run.finished(params.epochs)
        how = "already finished: restored from its checkpoint" if finished else f"resumes after epoch {len(run.epochs)}"
        print(f"{output.name} seed {seed} {how}", flush=True)
    saved, save_seconds = clock(), 0.0  # by the seed's own clock: a save holds up all that share it
    for epoch in train_epochs(run, params, seed, data, clock):
        if epoch is None:
            yield
            continue
        curves.log(epoch)
        _print_epoch(f"{output.name} seed {seed} epoch {epoch.number}/{params.epochs}", epoch)
        start = time.monotonic()
        due = epoch.number % params.checkpoint_every_epochs == 0
        last = run.finished(params.epochs)  # then it is saved below
        if due and not last and save_seconds <= CHECKPOINT_SHARE * (clock() - saved):
            checkpoint.save(checkpoints / name, epoch.number, run.state())
            saved, save_seconds = clock(), time.monotonic() - start
    checkpoint.save(checkpoints / name, len(run.epochs), run.state())
    curves.close()
    run.model.load_state_dict(run.best_weights)
    save_weights(output / "weights" / f"{name}.safetensors", run.model, params.model)
    write_json(output / "metrics" / name / "gradients.json", _gradients(run))
    facts = {"variant": output.name, "seed": seed, **_facts(params, run, data.train_labels.device)}
    write_json(output / "metrics" / name / "run.json", facts)
    if run.diverged_epoch is not None:
        print(f"{output.name} seed {seed} diverged at epoch {run.diverged_epoch}: its loss is not finite", flush=True)


def _print_epoch(heading: str, epoch: Epoch) -> None:
    print(
        f"{heading}  "
        f"train loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:.2%}  "
        f"val loss {epoch.val_loss:.4f} accuracy {epoch.val_accuracy:.2%}  "
        f"lr {epoch.lr:g}  {epoch.seconds:.1f} s  {epoch.images_per_second:,.0f} images/s",
        flush=True,
    )


def _facts(params: VariantParams, run: Run, device: torch.device) -> dict[str, object]:
    """run.json: what was run, on what, and how it ended; the same on every run on the same device."""
    best = run.epochs[run.best_epoch - 1]
    return {
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "multiply_adds": multiply_adds(params.model),
        "activation_bytes": activation_bytes(params.model),
        "first_batch_loss": run.first_batch_loss,
        "epochs": len(run.epochs),
        "best_epoch": run.best_epoch,
        "best_val_accuracy": best.val_accuracy,
        "diverged_epoch": run.diverged_epoch,
        "device": describe(device),
        "precision": precision(params, device),
        "num_threads": params.num_threads,
        "versions": versions(),
    }


def _gradients(run: Run) -> dict[str, object]:
    """gradients.json: the norm of each layer's gradient at the start of each epoch; null where it is not finite."""
    epochs = [[norm if math.isfinite(norm) else None for norm in epoch.gradient_norms] for epoch in run.epochs]
    return {"layers": list(weight_layers(run.model)), "epochs": epochs}
