"""Triton's interpreter runs kernels on a CPU, in float32 alone: it multiplies bfloat16 wrongly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def in_the_interpreter(code: str) -> str:
    """What `code` prints in a process of its own: Triton chooses its interpreter when it is imported."""
    pytest.importorskip("triton", minversion="3.7", reason="an older interpreter fails with NumPy 2.4")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}"}
    command = [sys.executable, "-c", f"import json, torch\n{code}"]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
