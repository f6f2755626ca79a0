"""Where the runs come from, in a repository made for it and where there is none."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ablation.common.settings import read_yaml
from ablation.reporting import provenance

PARAMS = {"seeds": [0, 1, 2], "train": {"lr": 0.01, "optimizer": {"name": "sgd", "momentum": 0.9}}}
PARAMS |= {"variants": {"a": {"epochs": None}}}
IDENTITY = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2024-05-06T07:08:09+0000")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def git(*arguments: str) -> str:
    command = ["git", *IDENTITY, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(folder: Path) -> Path:
    """Committed: params.yaml and src/code.py; the stage configure has written configs/."""
    (folder / "configs").mkdir()
    for name in ("params.yaml", "configs/params.yaml"):
        (folder / name).write_text(yaml.safe_dump(PARAMS))
    (folder / "src").mkdir()
    (folder / "src/code.py").write_text("")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "all")
    return folder


def test_a_commit_as_it_is(repository: Path) -> None:
    facts = provenance.provenance()

    commit = git("rev-parse", "HEAD")
    assert commit.startswith(facts["commit"]) and len(facts["commit"]) >= 7
    assert facts == {"commit": facts["commit"], "date": "2024-05-06 07:08:09 +0000", "uncommitted": [], "changed": []}
    assert provenance.lines(facts) == {
        "commit": facts["commit"],
        "committed": "2024-05-06 07:08:09 +0000",
        "settings changed": "none: params.yaml is the committed one",
    }
    assert provenance.command(facts["changed"]) == "dvc exp run"


def test_settings_that_changed_are_named_with_what_they_were(repository: Path) -> None:
    optimizer = {"name": "adam", "beta1": 0.9}
    train = {"lr": 0.1, "optimizer": optimizer}
    changed = {"seeds": [0, 1], "train": train, "variants": {"a": {"epochs": 5, "url": "file:/a b"}}}
    (repository / "configs/params.yaml").write_text("# settings\n" + yaml.safe_dump(changed))
    (repository / "params.yaml").write_text("seeds: [7]  # of the next study\n")

    facts = provenance.provenance()

    assert facts["uncommitted"] == []  # params.yaml is told setting by setting
    assert provenance.lines(facts)["settings changed"].splitlines() == [
        "seeds: [0, 1, 2] → [0, 1]",
        "train.lr: 0.01 → 0.1",
        "train.optimizer.momentum: 0.9 → absent",
        "train.optimizer.name: sgd → adam",
        "train.optimizer.beta1: absent → 0.9",
        "variants.a.epochs: null → 5",
        "variants.a.url: absent → file:/a b",
    ]
    assert provenance.command(facts["changed"]) == (
        "dvc exp run -S 'seeds=[0,1]' -S train.lr=0.1 -S '~train.optimizer.momentum' -S 'train.optimizer.name=\"adam\"'"
        " -S +train.optimizer.beta1=0.9 -S variants.a.epochs=5 -S '+variants.a.url=\"file:/a b\"'"
    )


def test_the_command_gives_the_settings_as_dvc_understands_it(repository: Path) -> None:
    from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped]

    optimizer = {"name": "adam", "beta1": 0.9}
    train = {"lr": 1e-05, "optimizer": optimizer, "nesterov": True, "url": "https://example.org/a?b=c d"}
    train |= {"label": "2024", "name": "null", "words": "é, b"}  # as text
    model = {"batch_norm": True, "sizes": [{"width": 8}]}
    changed = {"seeds": [0, "x y"], "train": train}
    changed |= {"variants": {"a": {"epochs": 5, "model": model}, "lr_1e-0": {"lr": None}}}
    committed = PARAMS | {"variants": {"a": {**PARAMS["variants"]["a"], "model": None}}}
    committed["variants"]["removed"] = {"epochs": None, "model": {}}
    (repository / "params.yaml").write_text(yaml.safe_dump(committed))
    facts = provenance.changes(committed, changed)
    words = shlex.split(provenance.command(facts))

    apply_overrides(repository / "params.yaml", [word for word in words[3:] if word != "-S"])

    assert read_yaml("params.yaml") == changed


def test_a_long_list_is_counted() -> None:
    changed = provenance.changes({"study": list(range(27))}, {"study": ["a", "b"]})

    assert provenance.lines({"changed": changed})["settings changed"] == "study: 27 entries → [a, b]"
    changed = provenance.changes({"comparisons": dict.fromkeys("abcdefghijk")}, {"comparisons": {}})
    assert provenance.lines({"changed": changed})["settings changed"] == "comparisons: 11 entries → {}"


def test_changes_of_the_code_are_told(repository: Path) -> None:
    (repository / "src/code.py").write_text("changed")
    (repository / "stages").mkdir()
    (repository / "stages/new.py").write_text("")

    facts = provenance.provenance()

    assert facts["uncommitted"] == ["src", "stages"]
    assert provenance.lines(facts)["commit"] == f"{facts['commit']}, with uncommitted changes in src, stages"


def test_a_folder_of_a_repository_has_params_of_its_own(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = repository / "below"
    below.mkdir()
    (below / "params.yaml").write_text("lr: 1\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "below")
    (below / "configs").mkdir()
    (below / "configs/params.yaml").write_text("lr: 2\n")
    monkeypatch.chdir(below)

    assert provenance.provenance()["changed"] == [{"name": "lr", "default": 1, "value": 2}]


def test_what_cannot_be_told_is_absent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance.provenance() == {}  # no repository
    assert provenance.lines({}) == {}
    git("init", "--quiet")
    assert provenance.provenance() == {}  # no commit
    git("commit", "--quiet", "--allow-empty", "--message", "nothing")
    assert list(provenance.provenance()) == ["commit", "date", "uncommitted"]  # no params.yaml
    monkeypatch.setenv("PATH", "")
    assert provenance.provenance() == {}  # no git


@pytest.mark.parametrize("content", [b"", b"- a\n", b"caf\xe9: 1\n"], ids=["empty", "a list", "Latin-1"])
def test_committed_params_that_are_no_settings_are_absent(repository: Path, content: bytes) -> None:
    (repository / "params.yaml").write_bytes(content)
    git("commit", "--quiet", "--all", "--message", "broken")

    assert list(provenance.provenance()) == ["commit", "date", "uncommitted"]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen to sign a commit")
def test_a_signature_that_git_shows_is_no_fact(repository: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "../key"], check=True)
    for name, value in (("gpg.format", "ssh"), ("user.signingKey", "../key.pub"), ("log.showSignature", "true")):
        git("config", name, value)
    git("commit", "--quiet", "--allow-empty", "--gpg-sign", "--message", "signed")
    assert "ignature" in git("log", "-1", "--format=%h")

    assert provenance.provenance()["date"] == "2024-05-06 07:08:09 +0000"


@pytest.mark.parametrize("content", [None, "a: [1"])
def test_unreadable_params_are_absent(repository: Path, content: str | None) -> None:
    (repository / "configs/params.yaml").unlink()
    if content is not None:
        (repository / "configs/params.yaml").write_text(content)

    assert "changed" not in provenance.provenance()


def test_a_list_of_ten_is_shown() -> None:
    changed = provenance.changes({"study": list(range(10))}, {"study": ["a"]})
    assert provenance.lines({"changed": changed})["settings changed"].startswith("study: [0, 1, 2, 3,")
