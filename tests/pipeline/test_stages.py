"""dvc.yaml against the code: DVC does not follow imports, so each stage's deps have to name what its script imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
PACKAGE = PROJECT / "src" / "ablation"


def module_file(module: str) -> Path | None:
    """src/ablation/a/b.py, or src/ablation/a/__init__.py, of the module ablation.a.b or ablation.a."""
    path = PROJECT.joinpath("src", *module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported_modules(file: Path) -> Iterator[str]:
    """Names of the modules of this project that `file` imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import, which this test does not follow"
            # `from ablation.a import b` imports ablation.a, and ablation.a.b where that is a module.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.partition(".")[0] == "ablation":
                yield name


def import_closure(script: Path) -> set[str]:
    """The files under src/ that `script` imports, directly or through others, but for the empty __init__.py."""
    closure: set[Path] = set()
    pending = [script]
    while pending:
        for module in imported_modules(pending.pop()):
            file = module_file(module)
            if file is not None and file.name != "__init__.py" and file not in closure:
                closure.add(file)
                pending.append(file)
    return {str(file.relative_to(PROJECT)) for file in closure}


def code_deps(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")]


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def test_every_stage_has_its_script():
    assert {path.stem for path in (PROJECT / "stages").glob("*.py")} == set(STAGES)
    for stage, definition in STAGES.items():
        script = f"stages/{stage}.py"
        assert f" {script}" in definition["cmd"]
        assert script in definition["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_the_imports(stage):
    deps = code_deps(stage)
    assert [
        file
        for file in sorted(import_closure(PROJECT / "stages" / f"{stage}.py"))
        if not any(covers(dep, file) for dep in deps)
    ] == [], "imported, but a change of it would not rerun the stage"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_imported(stage):
    closure = import_closure(PROJECT / "stages" / f"{stage}.py")
    unused = []
    for dep in code_deps(stage):
        path = PROJECT / dep
        files = [path] if path.is_file() else [f for f in path.rglob("*.py") if f.name != "__init__.py"]
        assert files, f"{dep} is not there"
        unused += [file for f in files if (file := str(f.relative_to(PROJECT))) not in closure]
    assert unused == [], "a change of it would rerun the stage for nothing"


def test_packages_hold_nothing_but_code():
    """Prose beside the code would retrain everything, and what an __init__.py imports would be in every closure."""
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [str(path) for path in files if path.suffix not in (".py", ".c", ".h")] == []
    assert [str(path) for path in files if path.name == "__init__.py" and path.read_bytes()] == []
    folders = {path.parent for path in files}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_all_outputs_are_cached(stage):
    """Clones and other machines get them through the cache; one uncached output would turn off the run cache."""
    outputs = [out for kind in ("outs", "metrics", "plots") for out in STAGES[stage].get(kind, [])]
    assert outputs
    for output in outputs:
        options = next(iter(output.values())) if isinstance(output, dict) else {}
        assert options.get("cache", True) is True, output
        assert not options.get("persist", False), output
    assert not STAGES[stage].get("always_changed", False)


def test_only_evaluate_reads_the_test_split():
    readers = {
        stage
        for stage, definition in STAGES.items()
        if any(covers(dep, "data/splits/test.safetensors") for dep in definition["deps"])
    }
    assert readers == {"evaluate"}


def test_closure_follows_imports_inside_functions():
    """The test of the test: scikit-learn's digits are imported where they are written."""
    closure = import_closure(PROJECT / "stages" / "download.py")
    assert {"src/ablation/data/digits.py", "src/ablation/common/settings.py"} <= closure
    assert not any(covers("src/ablation/models", file) for file in closure)


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_is_answered_while_a_stage_imports(stage, tmp_path):
    """At its first slow import: of torch, pandas or a part of the package that may import them."""
    code = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name in ("torch", "pandas") or name.startswith("ablation.") and name.split(".")[1] != "common":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process started in the background ignores
sys.meta_path.insert(0, Interrupt())
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    script = PROJECT / "stages" / f"{stage}.py"
    ended = subprocess.run(
        [sys.executable, "-c", code, script, *(["simple_nn"] if stage in ("train", "evaluate") else [])],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        text=True,
    )
    how = "resume from the last checkpoint" if stage == "train" else "start this stage again"
    line = f"\ninterrupted: run the same command again to {how}; finished stages are kept\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", line)
