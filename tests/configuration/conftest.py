"""Stage configure called in a folder of its own, as DVC calls it in the project's root."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.stages import run_stage


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def configure(workspace: Path) -> Callable[..., str | None]:
    """Runs stages/configure.py on a params.yaml; gives its error line, or None on success."""

    def call(params: object, *arguments: str) -> str | None:
        if not isinstance(params, bytes):
            params = yaml.dump(params, Dumper=yaml.CSafeDumper, sort_keys=False).encode()
        (workspace / "params.yaml").write_bytes(params)
        try:
            run_stage("configure", *arguments)
        except SystemExit as end:
            assert isinstance(end.code, str), "exits with a line of text, that is with status 1"
            assert not (workspace / "configs").exists(), "nothing is written before all is checked"
            return end.code
        return None

    return call
