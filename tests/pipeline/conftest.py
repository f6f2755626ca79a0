import os
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.pipeline import clone, commit


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment variables: this Python first on PATH, and none of the user's DVC and git settings."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_GLOBAL_CONFIG_DIR": str(tmp_path / "dvc-global"),
        "DVC_SYSTEM_CONFIG_DIR": str(tmp_path / "dvc-system"),
        "DVC_SITE_CACHE_DIR": str(tmp_path / "dvc-site"),
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with the files of this one and a study of two variants, one seed and one epoch."""
    folder = tmp_path / "project"
    clone(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data"] |= {"source": "digits", "label": "digits", "val_size": 200}
    params["train"] |= {"epochs": 1, "device": "cpu"}
    params["evaluate"]["device"] = "cpu"
    (folder / "params.yaml").write_text(
        yaml.safe_dump(params | {"seeds": [0], "study": ["simple_nn", "simple_nn_lr_1e-1"]})
    )
    commit(folder)
    return folder
