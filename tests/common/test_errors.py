import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ablation.common.errors import InvalidInput, in_one_line, run

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _started_alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stages/a.py"])


def raising(error: BaseException):
    def stage():
        raise error

    return stage


def open_missing_file():
    Path("no/such/file").read_text()


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (raising(InvalidInput("train.lr: -1 must be greater than 0")), "error: train.lr: -1 must be greater than 0"),
        (open_missing_file, "error: no/such/file: No such file or directory"),
        (raising(OSError(28, "No space left on device", "runs/a.json")), "error: runs/a.json: No space left on device"),
        (raising(OSError(28, "No space left on device")), "error: No space left on device"),
    ],
)
def test_what_a_user_can_mend_is_one_line_with_status_1(stage, line):
    with pytest.raises(SystemExit) as ended:
        run(stage)
    assert ended.value.code == line


@pytest.mark.parametrize("error", [ValueError("ours"), OSError("of a library"), AssertionError()])
def test_what_is_our_own_mistake_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised:
        run(raising(error))
    assert raised.value is error


@pytest.mark.parametrize(
    ("resumable", "what"), [(True, "resume from the last checkpoint"), (False, "start this stage again")]
)
def test_ctrl_c_says_how_to_go_on(capsys, resumable, what):
    with pytest.raises(SystemExit) as ended:
        run(raising(KeyboardInterrupt()), resumable=resumable)
    assert ended.value.code == 130
    assert capsys.readouterr() == (
        "",
        f"\ninterrupted: run the same command again to {what}; finished stages are kept\n",
    )


def test_a_python_without_the_packages_of_the_project_is_named() -> None:
    with pytest.raises(SystemExit) as ended:
        in_one_line(lambda: importlib.import_module("a_package_that_is_not_there.part"))
    line = f"error: {sys.executable} has no package a_package_that_is_not_there; "
    line += "run make setup, then source .venv/bin/activate"
    assert ended.value.code == line
    with pytest.raises(ModuleNotFoundError):  # a mistake in the code
        in_one_line(lambda: importlib.import_module("ablation.not_there"))


def test_a_stage_that_ends_well_exits_with_nothing():
    calls = []
    run(lambda: calls.append("ran"))
    assert calls == ["ran"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ([], "error: usage: python stages/a.py VARIANT"),
        (["a", "b"], "error: usage: python stages/a.py VARIANT"),
        (["a"], None),
    ],
)
def test_a_stage_gets_the_arguments_it_names(given, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/project/stages/a.py", *given])
    calls = []
    if line is None:
        run(calls.append, "VARIANT")
    else:
        with pytest.raises(SystemExit) as ended:
            run(calls.append, "VARIANT")
        assert ended.value.code == line
    assert calls == ([] if line else ["a"])


def test_a_stage_whose_script_changed_while_it_ran_fails(tmp_path):
    """DVC would record the new script as the one that made the old one's output."""
    script = tmp_path / "stage.py"
    script.write_text("from ablation.common.errors import run\nrun(lambda: open(__file__, 'a').write('# edited'))\n")
    result = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True)
    line = "error: stage.py: changed while this stage ran, so its results match no version of it; run it again\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", line)


def test_a_training_tells_that_its_checkpoints_are_kept(tmp_path):
    script = tmp_path / "stage.py"
    script.write_text(
        "from ablation.common.errors import run\nrun(lambda: open(__file__, 'a').write('# edited'), resumable=True)\n"
    )
    result = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True)
    assert result.stderr.endswith("run it again; its checkpoints remain valid for the previous code\n")


def test_a_module_that_changed_before_the_stage_had_imported_it_fails(tmp_path):
    package = tmp_path / "ablation"
    shutil.copytree(PROJECT / "src/ablation/common", package / "common")
    for name in ("__init__.py", "late.py"):
        (package / name).touch()
    (package / ".#late.py").symlink_to("somebody@here.1234")  # an editor's lock
    code = """
from pathlib import Path
from ablation.common.errors import run
def main():
    Path("ablation/late.py").write_text("edited = True")
    import ablation.late
run(main)"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True
    )
    line = "error: ablation/late.py: changed while this stage ran, so its results match no version of it; run it"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"{line} again\n")


def test_the_code_of_a_linked_package_is_known(tmp_path):
    (tmp_path / "src").symlink_to(PROJECT / "src")
    code = "from ablation.common import errors, sources; print(len(sources.loaded()), len(sources.digests()) > 50)"
    command, environment = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "4 True\n"  # errors, sources and two __init__.py


@pytest.mark.parametrize(
    ("body", "status", "stderr"),
    [
        ("raise InvalidInput('a: no such file')", 1, "error: a: no such file\n"),
        (
            f"os.kill(os.getpid(), {signal.SIGINT.value}); time.sleep(10)",
            130,
            "\ninterrupted: run the same command again to start this stage again; finished stages are kept\n",
        ),
    ],
)
def test_process_ends_without_traceback(body, status, stderr):
    # A process started in the background ignores Ctrl-C, and so do its children.
    code = "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"from ablation.common.errors import InvalidInput, run\ndef main():\n    {body}\nrun(main)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (status, "", stderr)
