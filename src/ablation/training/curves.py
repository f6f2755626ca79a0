"""The curves of one seed, as dvclive files."""

import math
from pathlib import Path

from dvclive.live import Live

from ablation.common.files import sync
from ablation.training.loop import Epoch


class Curves:
    """The dvclive files of one seed. Timings have a folder of their own: the rest is the same on every run."""

    def __init__(self, metrics: Path, timing: Path) -> None:
        self.metrics = Live(dir=str(metrics), dvcyaml=None, save_dvc_exp=False, monitor_system=False)
        self.timing = Live(dir=str(timing), dvcyaml=None, save_dvc_exp=False, monitor_system=False)

    def log(self, epoch: Epoch) -> None:
        """Append one epoch; a value that is not finite is left out, since JSON and `dvc metrics` have none."""
        values = {
            "train/loss": epoch.train_loss,
            "train/accuracy": epoch.train_accuracy,
            "train/batch_loss_sd": epoch.batch_loss_sd,
            "val/loss": epoch.val_loss,
            "val/accuracy": epoch.val_accuracy,
            "lr": epoch.lr,
        }
        self.metrics.step = self.timing.step = epoch.number
        for name, value in values.items():
            if math.isfinite(value):
                self.metrics.log_metric(name, value)
        self.timing.log_metric("seconds", epoch.seconds)
        self.timing.log_metric("images_per_second", epoch.images_per_second)
        self.timing.log_metric("concurrent_seeds", epoch.concurrent_seeds)

    def close(self) -> None:
        """Write the last values, and sync everything to disk.

        Not Live.end(): in a `dvc exp run` that spends half a second per Live on looking up whether DVC or git tracks
        these outputs of a stage.
        """
        for live in (self.metrics, self.timing):
            live.make_summary()
            for path in [Path(live.dir), *Path(live.dir).rglob("*")]:
                sync(path)
