import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """This Python first on the path, and nothing of the user's DVC and git settings."""
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
def project(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A git repository with the files of this one and a study of two variants, one seed and one epoch."""
    folder = tmp_path / "project"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (PROJECT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data"] |= {"source": "digits", "label": "digits", "val_size": 200}
    params["train"] |= {"epochs": 1, "device": "cpu"}
    params["evaluate"]["device"] = "cpu"
    (folder / "params.yaml").write_text(
        yaml.safe_dump(params | {"seeds": [0], "study": ["simple_nn", "simple_nn_lr_1e-1"]})
    )
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "a study"]):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, env=environment, check=True)
    return folder
