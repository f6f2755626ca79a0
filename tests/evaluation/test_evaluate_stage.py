import base64
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score

from ablation.common.settings import write_yaml
from ablation.data.splits import Statistics, read_split, write_split, write_statistics
from ablation.evaluation.diagnostics import ActiveUnits
from ablation.evaluation.predictions import predict
from ablation.models.build import build_model
from ablation.models.device import cpu_model
from ablation.models.params import SimpleNNParams
from ablation.models.weights import load_weights, save_weights
from tests.stages import run_stage

PARAMS = SimpleNNParams(name="simple_nn", batch_norm=False, activation="relu", dropout=0.0)
CLASSES = [f"class {k}" for k in range(10)]
NUM_IMAGES = {"train": 50, "val": 20, "test": 35}
OUTPUTS = ["metrics.json", "diagnostics.json", "mistakes.json", "predictions.csv", "confusion.csv"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Tiny splits, and a variant of three seeds of which the last has diverged."""
    monkeypatch.chdir(tmp_path)
    num_threads, flags = torch.get_num_threads(), (torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32)
    torch.manual_seed(0)
    for name, num_images in NUM_IMAGES.items():
        images = torch.randint(256, (num_images, 3, 32, 32), dtype=torch.uint8)
        write_split(Path(f"data/splits/{name}.safetensors"), images, torch.arange(num_images) % 10)
    statistics = Statistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), CLASSES)
    write_statistics(Path("data/splits/statistics.json"), statistics, NUM_IMAGES)
    write_yaml(Path("configs/evaluate.yaml"), {"batch_size": 16, "device": "cpu"})
    for seed in (2, 0, 10):
        torch.manual_seed(seed)
        model = build_model(PARAMS)
        if seed == 10:
            for parameter in model.parameters():
                torch.nn.init.constant_(parameter, math.nan)
        save_weights(Path(f"runs/small/weights/seed-{seed}.safetensors"), model, PARAMS)
    yield tmp_path
    torch.set_num_threads(num_threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = flags


def evaluate(*arguments: str) -> None:
    run_stage("evaluate", *arguments)


def test_diagnostics_are_of_each_seed_and_null_where_it_diverged(project: Path) -> None:
    evaluate("small")
    seeds = json.loads((project / "runs/small/evaluation/diagnostics.json").read_text())["seeds"]
    assert [of["seed"] for of in seeds] == [0, 2, 10]
    assert seeds[2] == {"seed": 10, "sparsity": None, "weights": None, "dead_units": None, "batch_norm": None}
    for of in seeds[:2]:
        assert sum(of["weights"]["counts"]) == 8 * 75 + 16 * 72 + 576 * 120 + 120 * 84 + 840
        assert 0 < of["sparsity"] < 0.01 and 0 <= of["dead_units"] < 0.5 and of["batch_norm"] is None


def test_outputs_agree_with_each_other(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate("small")
    folder = project / "runs/small/evaluation"
    assert sorted(path.name for path in folder.iterdir()) == sorted(OUTPUTS)
    written = json.loads((folder / "metrics.json").read_text())
    assert written["num_images"] == NUM_IMAGES
    assert written["evaluated_on"] == {"device": f"cpu ({cpu_model()})", "torch": torch.__version__}
    metrics = written["seeds"]
    predictions = pd.read_csv(folder / "predictions.csv")
    confusion = pd.read_csv(folder / "confusion.csv")
    lines = capsys.readouterr().out.splitlines()

    assert [of["seed"] for of in metrics] == [0, 2, 10] and len(lines) == 3
    for of, line in zip(metrics, lines, strict=True):
        accuracies = []
        for split in ("val", "test"):
            num_images = NUM_IMAGES[split]
            rows = predictions[(predictions["seed"] == of["seed"]) & (predictions["split"] == split)]
            assert rows["index"].tolist() == list(range(num_images))
            assert rows["label"].tolist() == [i % 10 for i in range(num_images)]
            assert of[split]["accuracy"] == pytest.approx(accuracy_score(rows["label"], rows["prediction"]))
            recalls = (rows["prediction"] == rows["label"]).groupby(rows["label"]).mean()
            assert of[split]["per_class_accuracy"] == pytest.approx(dict(zip(CLASSES, recalls, strict=True)))
            accuracies.append(f"{split} {100 * of[split]['accuracy']:.2f}%")
        accuracies.insert(0, f"train {100 * of['train']['accuracy']:.2f}%")
        assert line == f"small seed {of['seed']}: accuracy {', '.join(accuracies)}"

    assert confusion.columns.tolist() == ["label", "prediction", "count"] and len(confusion) == 100
    test = predictions[predictions["split"] == "test"]
    counts = confusion.pivot(index="label", columns="prediction", values="count").loc[CLASSES, CLASSES].to_numpy()
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (test["label"].to_numpy(), test["prediction"].to_numpy()), 1)
    assert (counts == expected).all() and counts.sum() == 3 * NUM_IMAGES["test"]
    assert counts.trace() == round(sum(of["test"]["accuracy"] for of in metrics) * NUM_IMAGES["test"])


def test_train_accuracy_is_that_of_the_weights_on_the_training_images(project: Path) -> None:
    evaluate("small")
    train = read_split(project / "data/splits/train.safetensors")
    inputs = (train.images.double() / 255 - 0.5) / 0.25  # mean and standard deviation as above
    for of in json.loads((project / "runs/small/evaluation/metrics.json").read_text())["seeds"][:2]:
        model = load_weights(project / f"runs/small/weights/seed-{of['seed']}.safetensors").double()
        right = (model(inputs).argmax(1) == train.labels).double().mean().item()
        assert of["train"]["accuracy"] == pytest.approx(right)


def test_the_mistakes_are_the_most_confident_predictions_that_are_wrong(project: Path) -> None:
    evaluate("small")
    predictions = pd.read_csv(project / "runs/small/evaluation/predictions.csv")
    wrong = predictions[(predictions["split"] == "test") & (predictions["label"] != predictions["prediction"])]
    highest = wrong.groupby("index")["confidence"].max().nlargest(12)  # drops the NaN of the seed that diverged
    mistakes = json.loads((project / "runs/small/evaluation/mistakes.json").read_text())
    assert [entry["index"] for entry in mistakes] == highest.index.tolist()
    assert [entry["confidence"] for entry in mistakes] == pytest.approx(highest.tolist())
    assert all(entry["label"] == CLASSES[entry["index"] % 10] != entry["prediction"] for entry in mistakes)
    assert {entry["seed"] for entry in mistakes} <= {0, 2}


def test_a_diverged_seed_is_a_result(project: Path) -> None:
    evaluate("small")
    *_, diverged = json.loads((project / "runs/small/evaluation/metrics.json").read_text())["seeds"]
    assert diverged["val"]["loss"] is None and diverged["test"]["loss"] is None
    assert diverged["val"]["accuracy"] == 2 / 20  # the images of class 0
    predictions = pd.read_csv(project / "runs/small/evaluation/predictions.csv")
    rows = predictions[predictions["seed"] == 10]
    assert (rows["prediction"] == 0).all() and rows["confidence"].isna().all()
    assert predictions[predictions["seed"] != 10]["confidence"].between(0.1, 1).all()


def test_two_runs_give_the_same_bytes(project: Path) -> None:
    contents = []
    for num_threads in (1, 2):  # of the process before the stage sets its own
        torch.set_num_threads(num_threads)
        evaluate("small")
        contents.append([(project / "runs/small/evaluation" / name).read_bytes() for name in OUTPUTS])
    assert contents[0] == contents[1]


def test_only_the_variants_own_folder_is_written(project: Path) -> None:
    before = {path for path in project.rglob("*") if path.is_file()}
    evaluate("small")
    added = {path for path in project.rglob("*") if path.is_file()} - before
    assert added == {project / "runs/small/evaluation" / name for name in OUTPUTS}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: usage: python stages/evaluate.py VARIANT"),
        (["small", "large"], "error: usage: python stages/evaluate.py VARIANT"),
        (["large"], "error: runs/large/weights: no weights (seed-<number>.safetensors); the stage train writes them"),
    ],
)
def test_arguments(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate(*arguments)
    assert stop.value.code == message


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("configs/evaluate.yaml", "batch_size: 0\ndevice: cpu\n", "configs/evaluate.yaml: batch_size: 0 "),
        ("configs/evaluate.yaml", "batch_size: 16\ndevice: cuda:99\n", "device cuda:99: not available on this machine"),
        ("data/splits/test.safetensors", "short", "data/splits/test.safetensors: "),
        ("data/splits/statistics.json", "{}", "data/splits/statistics.json: "),
        ("runs/small/weights/seed-2.safetensors", "short", "runs/small/weights/seed-2.safetensors: damaged"),
    ],
)
def test_broken_inputs_end_in_one_line(project: Path, path: str, content: str, message: str) -> None:
    (project / path).write_text(content)
    with pytest.raises(SystemExit) as stop:
        evaluate("small")
    assert str(stop.value.code).startswith(f"error: {message}") and "\n" not in str(stop.value.code)
    assert not (project / "runs/small/evaluation").exists()


def test_dead_units_are_those_on_the_val_images(project: Path) -> None:
    """Not on test images, which must not inform any choice."""
    path = project / "runs/small/weights/seed-0.safetensors"
    shares = {}
    for name in ("train", "val", "test"):
        model = load_weights(path)
        with ActiveUnits(model) as units:
            statistics = Statistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), [])
            predict(model, read_split(project / f"data/splits/{name}.safetensors").images, statistics, 16)
        shares[name] = units.dead_share
    assert len(set(shares.values())) == 3, shares
    evaluate("small")
    seeds = json.loads((project / "runs/small/evaluation/diagnostics.json").read_text())["seeds"]
    assert seeds[0]["dead_units"] == pytest.approx(shares["val"])


def test_the_pictures_of_the_mistakes_are_the_test_images(project: Path) -> None:
    evaluate("small")
    pictures = {name: read_split(project / f"data/splits/{name}.safetensors").images for name in ("train", "test")}
    for entry in json.loads((project / "runs/small/evaluation/mistakes.json").read_text()):
        with Image.open(io.BytesIO(base64.b64decode(entry["jpeg"]))) as picture:
            pixels = np.asarray(picture).astype(int)
        image, other = (pictures[name][entry["index"]].permute(1, 2, 0).numpy() for name in ("test", "train"))
        assert np.abs(pixels - image).mean() < np.abs(pixels - other).mean() / 4


def test_the_stage_is_deterministic_whatever_ran_before(project: Path) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = False, True
    evaluate("small")
    assert torch.get_num_threads() == 2
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("function", ["load_weights", "predict", "diagnose"])
def test_a_full_gpu_is_one_line_with_what_to_lower(
    function: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB\nand advice")

    monkeypatch.setattr(f"ablation.evaluation.evaluate.{function}", fill)
    with pytest.raises(SystemExit) as ended:
        evaluate("small")
    assert ended.value.code == (
        "error: out of GPU memory with batch_size 16; "
        "lower evaluate.batch_size, or stop other programs that use the GPU"
    )
