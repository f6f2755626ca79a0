"""Errors that a user can mend, and how a stage script ends on one."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ablation.common.sources import changed, remember


class InvalidInput(ValueError):  # noqa: N818 - it is the input that is wrong
    """Input that the user has to change: says what, where, and what is allowed, in one line."""


def run(stage: Callable[..., None], *arguments: str, resumable: bool = False) -> None:
    """Call `stage` with the script's arguments and make sure that its code is still what ran; ends as `in_one_line`.

    arguments: their names. `stage` imports what it needs itself: that takes seconds, in which code may change and
    Ctrl-C be pressed.
    """

    def checked() -> None:
        script, given = f"stages/{Path(sys.argv[0]).name}", sys.argv[1:]
        if given and not arguments:
            raise InvalidInput(f"{script} takes no arguments, got {' '.join(given)}; all settings are in params.yaml")
        if len(given) != len(arguments):
            raise InvalidInput(f"usage: python {script} {' '.join(arguments)}")
        remember()
        stage(*given)
        check_code(resumable)  # DVC would record the new code

    in_one_line(checked, resumable)


def check_code(resumable: bool = False) -> None:
    """Raise InvalidInput where code that this stage has loaded was changed on disk since its start."""
    if path := changed():
        kept = "; its checkpoints serve the code as it was" if resumable else ""
        raise InvalidInput(
            f"{os.path.relpath(path)}: changed while this stage ran, so no version of the code has these results; "
            f"run it again{kept}"
        )


def in_one_line(work: Callable[[], object], resumable: bool = False) -> None:
    """Call `work`; end the process with one line instead of a traceback on what the user can mend.

    InvalidInput exits with 1, a file-system error (full disk, read-only folder) with 1 and the path
    it names, Ctrl-C with 130 and a line that says how to go on.
    """
    try:
        work()
    except InvalidInput as error:
        sys.exit(f"error: {error}")
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
        gc.freeze()  # else the interpreter at its end looks through all objects of the libraries, for half a second
