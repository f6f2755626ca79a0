"""Settings of the section `evaluate`."""

from typing import Annotated

from pydantic import Field

from ablation.common.settings import Settings
from ablation.models.params import Device


class EvaluateParams(Settings):
    batch_size: Annotated[int, Field(gt=0)]  # images
    device: Device
