"""Real CIFAR-10 images, once JPEG-compressed, if present next to the project; they are not part of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
IMAGES = PROJECT.parent / "shared" / "cifar10"


@pytest.mark.real_images
@pytest.mark.skipif(not (IMAGES / "make_mirror.py").exists(), reason="no real images in ../shared/cifar10")
def test_from_archive_to_test_accuracy(tmp_path):
    mirror = subprocess.run(
        [sys.executable, IMAGES / "make_mirror.py", tmp_path / "mirror"], capture_output=True, text=True, check=True
    )
    archive, md5 = mirror.stdout.split()
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params["data"] |= {"url": f"file:{archive}", "md5": md5, "label": "cifar10-jpeg", "train_size": 5000}
    params["train"] |= {"epochs": 4, "lr": 0.05, "device": "cpu"}
    params["evaluate"]["device"] = "cpu"
    params |= {"seeds": [0], "study": ["simple_nn_bn"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))

    for stage in (["configure"], ["download"], ["normalize"], ["train", "simple_nn_bn"], ["evaluate", "simple_nn_bn"]):
        script = PROJECT / "stages" / f"{stage[0]}.py"
        subprocess.run([sys.executable, script, *stage[1:]], cwd=tmp_path, check=True)

    statistics = json.loads((tmp_path / "data/splits/statistics.json").read_text())
    assert statistics["num_images"] == {"train": 5000, "val": 5000, "test": 10_000}
    assert statistics["mean"] == pytest.approx([0.491, 0.482, 0.447], abs=0.01)  # of the official images
    assert statistics["std"] == pytest.approx([0.247, 0.243, 0.262], abs=0.01)
    (metrics,) = json.loads((tmp_path / "runs/simple_nn_bn/evaluation/metrics.json").read_text())["seeds"]
    run = json.loads((tmp_path / "runs/simple_nn_bn/metrics/seed-0/run.json").read_text())
    assert run["first_batch_loss"] == pytest.approx(2.3026, abs=0.1)
    assert metrics["test"]["accuracy"] > 0.3  # chance is 0.1
    assert metrics["val"]["accuracy"] == run["best_val_accuracy"]
