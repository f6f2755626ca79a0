"""The project's own code in this process. DVC hashes code after a stage has ended: it must still be what ran."""

import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the package
_at_start: dict[Path, str] = {}


def loaded() -> list[Path]:
    """The files that this process has loaded from the project: the script, its import closure and C code next to it."""
    ours = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == ROOT.name]
    modules = {Path(file).resolve() for module in ours if (file := getattr(module, "__file__", None))}
    folders = {module.parent for module in modules}
    compiled = {path for folder in folders for path in folder.glob("*.[ch]") if path.is_file()}
    return sorted(modules | compiled | _script())


def remember() -> None:
    """Record the state of the code on disk, before a stage loads any of it."""
    global _at_start
    _at_start = digests()


def changed() -> Path | None:
    """A loaded file that has changed since `remember` was called; None if there is none, or it was never called."""
    now = digests() if _at_start else {}
    return next((path for path in loaded() if now.get(path) != _at_start.get(path)), None)


def digests() -> dict[Path, str]:
    """Every file that this process may load -> the SHA-256 of its current content on disk."""
    files = (
        path
        for pattern in ("*.py", "*.[ch]")
        for path in ROOT.rglob(pattern)
        if path.is_file()  # not an editor's lock, which is a dangling symlink
    )
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in [*_script(), *files]}


def _script() -> set[Path]:
    return {path for path in [Path(sys.argv[0]).resolve()] if path.is_file()}  # none in `python -c`
