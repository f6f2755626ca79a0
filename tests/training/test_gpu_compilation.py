"""The GPU kernels through Triton's compiler, which the interpreter bypasses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("variant", "precision", "capability", "num_convolutions", "num_depthwise", "num_batch_norms"),
    [
        ("simple_nn_bn_swish", "tf32", 90, 2, 0, 2),
        ("resnet20", "tf32", 90, 21, 0, 21),
        ("resnet20_dws", "bf16", 90, 21, 18, 39),
        ("resnet20_dws", "tf32", 80, 21, 18, 39),
        ("resnet20", "tf32", 89, 21, 0, 21),
    ],
)
def test_every_kernel_of_a_step_compiles_for_a_gpu(
    variant, precision, capability, num_convolutions, num_depthwise, num_batch_norms, tmp_path
) -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "tests.training.gpu_compilation", str(PROJECT / "params.yaml")]
    command += [variant, precision, str(capability)]
    environment = os.environ | {
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}",
    }
    ended = subprocess.run(command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(ended.stdout)
    num_steps = 3  # on a whole batch, on a smaller one and on one image
    batch_norm = dict.fromkeys(["input_sums", "normalize", "gradient_sums", "gradients"], num_batch_norms)
    expected = {
        "convolve": 2 * num_convolutions - 1,  # the images need no gradient
        "weight_gradient": num_convolutions,
        "_weight_gradient": num_depthwise,
        "sum_parts": num_convolutions + num_depthwise,
        **batch_norm,
    }
    assert found == {name: num_steps * number for name, number in expected.items() if number}
