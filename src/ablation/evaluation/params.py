"""Settings of the section `evaluate`."""

from typing import Annotated

from pydantic import Field

from ablation.common.settings import Settings


class EvaluateParams(Settings):
    batch_size: Annotated[int, Field(gt=0)]  # images
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
