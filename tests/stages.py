import runpy
import sys
from pathlib import Path

import pytest

STAGES = Path(__file__).parents[1] / "stages"


def run_stage(name: str, *arguments: str) -> None:
    """Run stages/<name>.py in this process, in the working directory, as DVC calls it in the project's root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"stages/{name}.py", *arguments])
        runpy.run_path(str(STAGES / f"{name}.py"), run_name="__main__")
