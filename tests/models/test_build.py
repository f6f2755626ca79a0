import itertools
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F

from ablation.common.settings import Settings
from ablation.models.build import BUILDERS, build_model
from ablation.models.params import ModelParams

OPTIONS: dict[str, dict[str, list[Any]]] = {
    "simple_nn": {"batch_norm": [False, True], "activation": ["relu", "leaky_relu", "swish"], "dropout": [0.0, 0.5]},
    "resnet20": {"shortcut": ["projection", "none"], "convolution": ["standard", "depthwise_separable"]},
    "squeezenet": {"downsampling": ["late", "early"]},
    "speedrun": {"test_time_augmentation": ["none", "multi_crop"]},
}
EVERY_MODEL = [
    {"name": name, **dict(zip(options, values, strict=True))}
    for name, options in OPTIONS.items()
    for values in itertools.product(*options.values())
]


class Section(Settings):
    model: ModelParams


def build(settings: dict[str, Any], seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(Section.parse({"model": settings}, "test").model)


def test_every_name_in_the_settings_has_a_builder() -> None:
    (union, _) = get_args(ModelParams)
    names = [get_args(params.model_fields["name"].annotation) for params in get_args(union)]
    assert sorted(itertools.chain(*names)) == sorted(BUILDERS) == sorted(OPTIONS)


@pytest.mark.parametrize("settings", EVERY_MODEL, ids=lambda s: "-".join(map(str, s.values())))
def test_logits_do_not_depend_on_memory_format_or_neighbours(settings: dict[str, Any]) -> None:
    model = build(settings).eval()
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    logits = model(images)
    assert logits.shape == (5, 10)
    torch.testing.assert_close(model(images[2:3]), logits[2:3], rtol=1e-4, atol=1e-4)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_initialisation_follows_the_global_seed(name: str) -> None:
    settings = next(s for s in EVERY_MODEL if s["name"] == name)
    a, b, c = (list(build(settings, seed).parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    random = [i for i, x in enumerate(a) if x.dim() > 1 and len(x.unique()) > 2]  # speedrun has plain identities
    assert random and not any(torch.equal(a[i], c[i]) for i in random)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "simple_nn", "batch_norm": False, "activation": "relu", "dropout": 0.0},
        {"name": "resnet20", "shortcut": "projection", "convolution": "standard"},
        {"name": "resnet20", "shortcut": "projection", "convolution": "depthwise_separable"},
        {"name": "squeezenet", "downsampling": "early"},
        {"name": "squeezenet", "downsampling": "late"},
        {"name": "speedrun", "test_time_augmentation": "none"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_learns_ten_images_by_heart(settings: dict[str, Any]) -> None:
    model = build(settings).to(memory_format=torch.channels_last)
    images = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    images, labels = images.to(memory_format=torch.channels_last), torch.arange(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.05:
            break
    assert loss.item() < 0.2


@pytest.mark.cuda
@pytest.mark.parametrize("settings", EVERY_MODEL, ids=lambda s: "-".join(map(str, s.values())))
def test_gradients_are_deterministic_on_cuda(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        model = build(settings).to("cuda").to(memory_format=torch.channels_last)
        images = torch.randn(256, 3, 32, 32).to("cuda", memory_format=torch.channels_last)
        runs = []
        for _ in range(2):
            torch.manual_seed(0)
            model.zero_grad()
            F.cross_entropy(model(images), torch.arange(256, device="cuda") % 10).backward()
            runs.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)
