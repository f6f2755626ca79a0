"""Stage scripts called in a folder of their own, as DVC calls them in the project's root."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablation.data import archive
from tests.stages import run_stage


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with configs/."""
    folder = tmp_path / "workspace"
    (folder / "configs").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def stage(workspace: Path) -> Callable[..., str | None]:
    """Runs stages/<name>.py in the workspace; gives its error line, or None on success."""

    def call(name: str, settings: dict[str, Any], *arguments: str) -> str | None:
        (workspace / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        try:
            run_stage(name, *arguments)
        except SystemExit as end:
            assert isinstance(end.code, str), "exits with a line of text, that is with status 1"
            assert "\n" not in end.code
            return end.code
        return None

    return call


@pytest.fixture
def small_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten records in a batch file, and no proxy between this process and a server of its own."""
    monkeypatch.setattr(archive, "RECORDS_PER_FILE", 10)
    monkeypatch.setattr(archive, "WAIT_SECONDS", 0)
    for name in ("NO_PROXY", "no_proxy"):  # the latter takes precedence
        monkeypatch.setenv(name, "127.0.0.1")
