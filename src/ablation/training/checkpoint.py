"""Checkpoints that survive a kill at any moment and are never taken for another run's."""

import fcntl
import hashlib
import io
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from ablation.common.files import write_bytes

KEPT = 2  # newest checkpoints of a seed; the older one serves where the newer is damaged
FINISHED = "finished"  # this file marks a run whose seeds have all finished; DVC may not have recorded it
DAY_SECONDS = 24 * 3600
MAX_DAYS, MAX_DAYS_FINISHED = 30, 7  # since the last modification, until a run is pruned
DIGEST_BYTES = 32


def root() -> Path:
    """The folder of all checkpoints, in the outermost DVC project: `dvc exp run --temp` and queued runs share it."""
    here = Path.cwd()
    projects = [folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()]
    return (projects[-1] if projects else here) / ".dvc" / "tmp" / "checkpoints"


def key(settings: dict[str, Any], files: list[Path]) -> str:
    """A run's identity: its settings, with device and software versions, and the bytes of `files` (code and data)."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def claimed(folder: Path, seeds: Sequence[int]) -> Iterator[Path]:
    """Lock `folder`, that of a run, as `locked` does.

    When the block succeeds, `seeds` have finished. Their last checkpoints are kept, so that nothing is trained again
    where DVC was killed before it had recorded the run, where another experiment has the same run, and where seeds are
    added. Checkpoints of other seeds, which may have been interrupted, are left as they are.
    """
    prune(folder.parent)
    with locked(folder):
        (folder / FINISHED).unlink(missing_ok=True)
        for left in folder.glob("seed-*/.epoch-*"):  # left by a kill during a write
            left.unlink()
        yield folder
        finished = {folder / f"seed-{seed}" for seed in seeds}
        for each in finished:
            _keep(each, 1)
        if finished.issuperset(folder.glob("seed-*")):
            (folder / FINISHED).touch()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder`, by its file `lock`, for this process and its forks; waits, with a note, while another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read()
            print(
                f"note: process {holder} trains this variant or the same settings; waiting for it",
                file=sys.stderr,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def prune(folder: Path) -> None:
    """Remove the runs in `folder` that have not been modified for a month or, once finished, for a week."""
    for lock in folder.glob("*/lock"):
        days = MAX_DAYS_FINISHED if (lock.parent / FINISHED).exists() else MAX_DAYS
        with suppress(FileNotFoundError):  # of a run that is writing at this moment
            newest = max(path.stat().st_mtime for path in [lock, *lock.parent.rglob("*")])
            if time.time() - newest > days * DAY_SECONDS:
                shutil.rmtree(lock.parent, ignore_errors=True)


def save(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Write the state after `epoch` epochs: a digest, then tensors and plain values; keep the newest two."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_bytes(folder / f"epoch-{epoch:06d}.pt", hashlib.sha256(payload).digest() + payload)
    _keep(folder, KEPT)


def _keep(folder: Path, num_newest: int) -> None:
    for old in sorted(folder.glob("epoch-*.pt"))[:-num_newest]:
        old.unlink()


def load(folder: Path) -> dict[str, Any] | None:
    """The newest state in `folder`, on the CPU, or None. A damaged or foreign file is set aside with a message."""
    for path in sorted(folder.glob("epoch-*.pt"), reverse=True):
        data = path.read_bytes()
        if hashlib.sha256(data[DIGEST_BYTES:]).digest() == data[:DIGEST_BYTES]:
            state: dict[str, Any] = torch.load(io.BytesIO(data[DIGEST_BYTES:]), weights_only=True, map_location="cpu")
            return state
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        how = "resuming from the one before it" if any(folder.glob("epoch-*.pt")) else "training starts over"
        print(f"{aside}: damaged checkpoint set aside; {how}", file=sys.stderr)
    return None
