"""The project's own code in this process. DVC hashes it when a stage has ended: it must be the code that ran."""

import hashlib
import sys
from pathlib import Path


def loaded() -> dict[Path, str]:
    """The files that this process has loaded from the project, the script and its import closure -> their SHA-256."""
    root = Path(__file__).parents[1]
    names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    modules = {path for path in (Path(name).resolve() for name in names if name) if path.is_relative_to(root)}
    script = {path for path in [Path(sys.argv[0]).resolve()] if path.is_file()}  # none in `python -c`
    return {path: digest(path) for path in sorted(script | modules)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
