"""The comparisons that params.yaml may not declare."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ablation.common.errors import InvalidInput
from ablation.common.settings import read_yaml
from ablation.configuration.study import resolve

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"variant": "simple_m"}, "swish.variant: 'simple_m' is not a variant; did you mean simple_nn?"),
        ({"baseline": "simple_m"}, "swish.baseline: 'simple_m' is not a variant; did you mean simple_nn?"),
        ({"baseline": "simple_nn_bn_swish"}, "'simple_nn_bn_swish' is compared with itself; variant and baseline must"),
        ({"baseline": None}, "the claim higher needs a baseline; without one only number and at_most"),
        (
            {"claim": {"name": "best"}},
            "swish.claim.name: 'best' must be one of 'higher', 'lower', 'equal', 'at_most', 'number'",
        ),
        ({"claim": {"name": "equal", "margin": 0}}, "swish.claim.margin: 0 must be greater than 0"),
        ({"metric": "loss"}, "swish.metric: 'loss' is not a metric; known: val_accuracy, test_accuracy"),
        ({"familly": "recipe"}, "did you mean family?"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values = read_yaml(PARAMS)
    values["aggregate"]["comparisons"]["swish"] |= change
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))

    with pytest.raises(InvalidInput) as error:
        resolve(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
