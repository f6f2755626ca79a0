"""What can be compared: the columns of `Study.runs` that a comparison may name, and how each is displayed."""

from typing import NamedTuple


class Metric(NamedTuple):
    """A metric and its differences are displayed as `scale` times the value, with `digits` decimals, in `unit`."""

    words: str
    unit: str = ""  # of a difference
    scale: float = 1.0
    digits: int = 2
    is_count: bool = False  # counted, not measured: the same for every seed
    split: str | None = None  # the split whose images it is a fraction of
    step: float = 0.0  # its smallest possible change, where it is not a fraction of images
    step_name: str = "one image"

    @property
    def is_share(self) -> bool:
        """Whether it is a fraction, displayed in percent, and its differences in percentage points."""
        return self.unit == "points"


def _share(words: str, split: str | None = None, step: float = 0.0, step_name: str = "one image") -> Metric:
    return Metric(words, "points", 100.0, split=split, step=step, step_name=step_name)


METRICS = {
    "val_accuracy": _share("validation accuracy", "val"),
    "plateau": _share("validation accuracy, last quarter", "val"),
    "test_accuracy": _share("test accuracy", "test"),
    "train_accuracy": _share("training accuracy", "train"),
    "gap": _share("training minus validation accuracy", "val"),
    "first_batch_loss": Metric("loss of the first batch", "nats", digits=4),
    "instability": Metric("standard deviation of late batch losses", "nats", digits=4),
    "epochs_to_converge": Metric(
        "epochs to 95 % of its best accuracy", "epochs", digits=1, step=1.0, step_name="one epoch"
    ),
    "epochs_to_60": Metric("epochs to 60 % accuracy", "epochs", digits=1, step=1.0, step_name="one epoch"),
    "batch_norm_mean": Metric("mean of batch norm's outputs", digits=4),
    "batch_norm_mean_normalized": Metric("mean before batch norm's affine part", digits=4),
    "dead_units": _share("dead units", step=1 / 228, step_name="one unit of SimpleNN"),
    "sparsity": _share("weights near zero"),
    "gradient_imbalance_start": Metric(
        "imbalance of first and last convolution's gradient at the start", "powers of ten"
    ),
    "gradient_imbalance": Metric("imbalance of first and last convolution's gradient", "powers of ten"),
    "parameters": Metric("parameters", "thousand", 1e-3, digits=1, is_count=True),
    "multiply_adds": Metric("multiply-adds", "million", 1e-6, is_count=True),
    "activation_bytes": Metric("activations kept per image", "KiB", 1 / 1024, digits=1, is_count=True),
    "images_per_second": Metric("images per second in training", "images/s", digits=0),
}
