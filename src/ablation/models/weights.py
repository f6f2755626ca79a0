"""Weights on disk: a safetensors file that says which network it belongs to."""

import json
import re
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ablation.common.errors import InvalidInput
from ablation.common.files import write_bytes
from ablation.common.settings import Settings
from ablation.models.build import build_model
from ablation.models.params import ModelParams


class _Metadata(Settings):
    model: ModelParams


def save_weights(path: Path, model: nn.Module, params: ModelParams) -> None:
    """Write the parameters and buffers of `model`, built from `params`; the same values give the same bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # One entry of metadata: the library writes several in an order that differs from run to run.
    write_bytes(path, safetensors.torch.save(state, {"model": params.model_dump_json()}))


def find_weights(folder: Path) -> dict[int, Path]:
    """The files seed-<seed>.safetensors in `folder`, ordered by seed. Raises InvalidInput if there is none."""
    seeds = {path: re.fullmatch(r"seed-(\d+)\.safetensors", path.name) for path in folder.glob("*")}
    weights = sorted((int(match[1]), path) for path, match in seeds.items() if match)
    if not weights:
        raise InvalidInput(f"{folder}: no weights (seed-<number>.safetensors); the stage train writes them")
    return dict(weights)


def load_weights(path: Path) -> nn.Module:
    """The network saved at `path`, on the CPU, in eval mode. Raises InvalidInput where the file is not one of ours."""
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        state = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise InvalidInput(f"{path}: damaged safetensors file ({error}); train the variant again") from None
    try:
        params = _Metadata.parse({"model": json.loads(metadata["model"])}, str(path)).model
        model = build_model(params)
        model.load_state_dict(state)
    except (KeyError, json.JSONDecodeError, InvalidInput):
        raise InvalidInput(f"{path}: its metadata names no network of this version; train the variant again") from None
    except RuntimeError:
        raise InvalidInput(
            f"{path}: its tensors do not fit its network {params.name}; train the variant again"
        ) from None
    return model.eval()
