"""A params.yaml that is not a settings file, and a wrong call, end in one line and status 1."""

import shutil
import subprocess
import sys

import pytest

from tests.configuration.changes import PROJECT, SECTIONS, TEXT, VALUES, line_of, replaced

LAST = len(TEXT.splitlines()) + 1
FILES = [
    (f"{TEXT}seeds: [1]\n".encode(), f":{LAST}: not valid YAML: the key seeds is repeated"),
    (
        replaced("\nstudy:", "\nseeds: [1]\nstudy:"),
        f":{line_of('study:')}: not valid YAML: the key seeds is repeated",
    ),
    (
        replaced("  simple_nn: {epochs: null}", "  simple_nn: {epochs: null, epochs: 3}"),
        f":{line_of('  simple_nn:')}: not valid YAML: the key epochs is repeated",
    ),
    (
        f"{TEXT}]\n".encode(),
        f":{LAST}: not valid YAML: while parsing a block mapping: expected <block end>, but found ']'",
    ),
    (
        b"seeds:\n\t- 0\n",
        ":2: not valid YAML: while scanning for the next token: found character '\\t' that cannot start any token",
    ),
    (
        f"{TEXT}x: !!python/object/apply:os.system [ls]\n".encode(),
        f":{LAST}: not valid YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    (
        b"seeds: [0]\0\n",
        ': not valid YAML: unacceptable character #x0000: special characters are not allowed in "<unicode string>", '
        "position 10",
    ),
    (f"{TEXT}1: 2\n".encode(), f": 1: unknown key; known: {SECTIONS}"),
    (b"", f": null must be a mapping with the keys {SECTIONS}"),
    (b"- simple_nn\n", f": ['simple_nn'] must be a mapping with the keys {SECTIONS}"),
    (b"simple_nn\n", f": 'simple_nn' must be a mapping with the keys {SECTIONS}"),
    (TEXT.replace("# images", "# Größe").encode("latin-1"), ": not UTF-8 text"),
]


@pytest.mark.parametrize(("content", "problem"), FILES, ids=[problem[-40:] for _, problem in FILES])
def test_broken_file(configure, content, problem):
    assert configure(content) == f"error: params.yaml{problem}"


def test_arguments(configure):
    assert configure(VALUES, "--lr", "0.1") == (
        "error: stages/configure.py takes no arguments, got --lr 0.1; all settings are in params.yaml"
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (replaced("  lr: 0.01 ", "  lr: -0.01 "), "error: params.yaml: train.lr: -0.01 must be greater than 0\n"),
        (None, "error: params.yaml: no such file\n"),
    ],
)
def test_process_ends_with_one_line_and_status_1(workspace, content, line):
    if content is not None:
        (workspace / "params.yaml").write_bytes(content)
    command = [sys.executable, PROJECT / "stages" / "configure.py"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", line)


def test_a_git_repository_without_a_commit_is_refused(workspace, configure) -> None:
    """dvclive fails in it with a traceback; without any repository, and with a commit, all is well."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    assert configure(VALUES) is None
    shutil.rmtree(workspace / "configs")
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert configure(VALUES) == f"error: {workspace}: this git repository has no commit yet; make one first"
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True)
    assert configure(VALUES) is None
