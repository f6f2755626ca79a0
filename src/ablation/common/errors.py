"""Errors that the user can fix, and how a stage script ends on one."""

import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ablation.common.sources import changed, remember


class InvalidInput(ValueError):  # noqa: N818 - it is the input that is wrong
    """Input that the user has to change: the message says what, where, and what is allowed, in one line."""


def run(stage: Callable[..., None], *arguments: str, resumable: bool = False) -> None:
    """Call `stage` with the script's arguments, then check that its code is unchanged on disk; ends as `in_one_line`.

    arguments: the names of the arguments that the script takes. `stage` does its own imports: they take seconds, during
    which code may change or Ctrl-C be pressed.
    """

    def checked() -> None:
        script, given = f"stages/{Path(sys.argv[0]).name}", sys.argv[1:]
        if given and not arguments:
            raise InvalidInput(f"{script} takes no arguments, got {' '.join(given)}; all settings are in params.yaml")
        if len(given) != len(arguments):
            raise InvalidInput(f"usage: python {script} {' '.join(arguments)}")
        remember()
        stage(*given)
        check_code(resumable)  # else DVC would record the changed code as what ran

    in_one_line(checked, resumable)


def check_code(resumable: bool = False) -> None:
    """Raise InvalidInput if code that this stage has loaded has changed on disk since the stage started."""
    if path := changed():
        kept = "; its checkpoints remain valid for the previous code" if resumable else ""
        raise InvalidInput(
            f"{os.path.relpath(path)}: changed while this stage ran, so its results match no version of it; "
            f"run it again{kept}"
        )


def in_one_line(work: Callable[[], object], resumable: bool = False) -> None:
    """Call `work`; on an error that the user can fix, end the process with one line instead of a traceback.

    InvalidInput exits with 1, a file-system error (full disk, read-only folder) with 1 and the path
    it names, Ctrl-C with 130 and a line that says how to continue.
    """
    try:
        work()
    except InvalidInput as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if importlib.util.find_spec(package or "ablation"):
            raise
        sys.exit(f"error: {sys.executable} has no package {package}; run make setup, then source .venv/bin/activate")
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        sys.exit(f"error: {where}{error.strerror or error}")
    except KeyboardInterrupt:
        how = "resume from the last checkpoint" if resumable else "start this stage again"
        print(f"\ninterrupted: run the same command again to {how}; finished stages are kept", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        gc.freeze()  # else the final garbage collection spends half a second on the libraries' objects
