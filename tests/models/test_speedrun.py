import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ablation.models.params import SpeedrunParams
from ablation.models.speedrun import CHUNK_SIZE, SpeedrunNet, patch_covariance, whitening_filters

WIDTHS = [(24, 64), (64, 256), (256, 256)]


def speedrun(test_time_augmentation: str = "none") -> SpeedrunNet:
    torch.manual_seed(0)
    return SpeedrunNet(
        SpeedrunParams.parse({"name": "speedrun", "test_time_augmentation": test_time_augmentation}, "test")
    )


def images_like_photographs(num_images: int, seed: int = 1) -> Tensor:
    """Noise smoothed over space and mixed over channels, so that neighbouring values correlate."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_images, 3, 34, 34, generator=generator)
    mixing = torch.tensor([[1.0, 0.6, 0.3], [0.5, 1.0, 0.4], [0.2, 0.7, 1.0]])
    return torch.einsum("nchw,dc->ndhw", F.avg_pool2d(noise, 3, stride=1), mixing)


def textbook_logits(state: dict[str, Tensor], images: Tensor, training: bool) -> Tensor:
    """The network written out, with batch norm by its formula; `.bias` of batch norm is the bias itself."""

    def bn(name: str, x: Tensor) -> Tensor:
        if training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        else:
            mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        shifted = x - mean[:, None, None]
        return shifted / (var[:, None, None] + 1e-5).sqrt() + state[f"{name}.bias"][:, None, None]

    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))

    def same(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding="same")

    x = gelu(F.conv2d(images, state["whitening"]) + state["bias"][:, None, None])
    for name, channels, side in (("block1", 64, 15), ("block2", 256, 7), ("block3", 256, 3)):
        x = gelu(bn(f"{name}.bn1", F.max_pool2d(same(x, state[f"{name}.conv1.weight"]), 2)))
        x = gelu(bn(f"{name}.bn2", same(x, state[f"{name}.conv2.weight"])))
        assert x.shape[1:] == (channels, side, side)
    return x.amax((2, 3)) @ state["fc.weight"].T / 9


def test_parameters_and_multiply_adds_by_hand() -> None:
    model = speedrun()
    layers = {name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()}
    blocks = [9 * i * o + 9 * o * o + 2 * o for i, o in WIDTHS]
    assert layers == {"block1": blocks[0], "block2": blocks[1], "block3": blocks[2], "fc": 2560}
    assert sum(p.numel() for p in model.parameters()) == 24 + sum(blocks) + 2560 == 1_971_352

    convolutions = [
        31**2 * 12 * 24,
        *(side**2 * 9 * i * o for side, (i, o) in zip((31, 15, 7), WIDTHS, strict=True)),
        *(side**2 * 9 * o * o for side, (_, o) in zip((15, 7, 3), WIDTHS, strict=True)),
    ]
    with FlopCounterMode(display=False) as counter:
        model.train()(torch.zeros(2, 3, 32, 32))
    assert counter.get_total_flops() // 4 == sum(convolutions) + 2560


def test_the_optimizer_does_not_see_the_whitening_and_the_state_has_it() -> None:
    model = speedrun()
    assert "whitening" in model.state_dict() and "whitening" not in dict(model.named_parameters())
    assert not any(name.endswith("ones") for name in model.state_dict())
    model(images_like_photographs(4)).sum().backward()
    assert model.whitening.grad is None and all(p.grad is not None for p in model.parameters())


def test_convolutions_start_as_the_identity() -> None:
    model, x = speedrun(), torch.randn(2, 64, 9, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.block1.conv2(x), x)
    assert torch.equal(model.block2.conv1(x)[:, :64], x)
    others = model.block2.conv1.weight[64:]
    assert others.abs().max().item() == pytest.approx((64 * 9) ** -0.5, rel=0.01)  # PyTorch's uniform range
    assert model.bias.abs().max().item() < 12**-0.5


def test_covariance_equals_numpys_over_all_patches() -> None:
    images = images_like_photographs(CHUNK_SIZE + 7)
    cut = images.unfold(2, 2, 1).unfold(3, 2, 1)  # [N, 3, 31, 31, 2, 2]
    patches = cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double().numpy()
    np.testing.assert_allclose(patch_covariance(images), np.cov(patches.T, bias=True), rtol=1e-9, atol=1e-12)


def test_filters_make_patches_white() -> None:
    model, images = speedrun(), images_like_photographs(200)
    model.fit_whitening(images)
    outputs = F.conv2d(images.double(), model.whitening.double()).permute(1, 0, 2, 3).flatten(1)
    covariance = torch.cov(outputs[:12], correction=0)
    eigenvalues = torch.linalg.eigvalsh(patch_covariance(images)).flip(0)
    assert eigenvalues[0] > 100 * eigenvalues[-1], "else there is nothing to whiten"
    torch.testing.assert_close(covariance, torch.diag(eigenvalues / (eigenvalues + 5e-4)), rtol=1e-4, atol=1e-4)
    assert torch.equal(model.whitening[12:], -model.whitening[:12])


def test_whitening_is_not_rounded_to_bfloat16() -> None:
    """Its large weights amplify small differences; all later convolutions follow autocast."""
    model, images, seen = speedrun(), images_like_photographs(20), []
    model.fit_whitening(images)
    model.block1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    exact = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(images)
    assert torch.equal(seen[0], seen[1])
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.02)


def test_filters_have_one_sign_whatever_lapack_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    covariance = patch_covariance(images_like_photographs(50))
    expected = whitening_filters(covariance)
    values, vectors = torch.linalg.eigh(covariance)
    monkeypatch.setattr(torch.linalg, "eigh", lambda _: (values, -vectors))
    assert torch.equal(whitening_filters(covariance), expected)
    largest = expected[:12].flatten(1).gather(1, expected[:12].flatten(1).abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_patches_without_variance_have_finite_filters(gray: float) -> None:
    """Patches of grey images, as the digits are, span four of twelve dimensions; those of a single colour, none."""
    noise = torch.randn(20, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert whitening_filters(patch_covariance(gray * noise.expand(20, 3, 32, 32))).isfinite().all()


def test_equals_the_network_written_out() -> None:
    model = speedrun()
    model.fit_whitening(images_like_photographs(100))
    generator = torch.Generator().manual_seed(2)
    for name, tensor in model.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
        elif name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    model.double()
    state = {n: t * 8 if ".bn" in n and n.endswith("bias") else t.clone() for n, t in model.state_dict().items()}
    images = images_like_photographs(6, seed=3).double()
    for training in (False, True):
        logits = model.train(training)(images)
        torch.testing.assert_close(logits, textbook_logits(state, images, training), rtol=1e-9, atol=1e-9)


def test_batch_norms_biases_learn_at_64_times_the_learning_rate() -> None:
    """Against the biases themselves in a parameter group of their own, as the paper's optimizer has them."""
    model = speedrun().double()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    biases = [name for name in names if ".bn" in name]
    assert len(biases) == 6
    for name in names:
        state[name] = nn.Parameter(state[name])
    lr, decay, momentum = 0.01, 0.02, {"momentum": 0.85, "nesterov": True}
    ours = torch.optim.SGD(model.parameters(), lr, weight_decay=decay, **momentum)
    groups = [
        {"params": [state[name] for name in names if name not in biases], "lr": lr, "weight_decay": decay},
        {"params": [state[name] for name in biases], "lr": 64 * lr, "weight_decay": decay / 64},
    ]
    theirs = torch.optim.SGD(groups, lr, **momentum)
    for i in range(5):
        images, labels = images_like_photographs(8, seed=i).double(), torch.arange(8)
        for optimizer, logits in ((ours, model(images)), (theirs, textbook_logits(state, images, True))):
            optimizer.zero_grad()
            F.cross_entropy(logits, labels).backward()
            optimizer.step()
    for name, parameter in model.named_parameters():
        expected = state[name]
        torch.testing.assert_close(parameter * 8 if name in biases else parameter, expected, rtol=1e-6, atol=1e-9)
    assert min(state[name].abs().max().item() for name in biases) > 1e-3, "the biases have moved"


def test_running_statistics_keep_six_tenths_of_the_old() -> None:
    norm, x = speedrun().block1.bn1, torch.randn(5, 64, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1
    norm(x)
    torch.testing.assert_close(norm.running_mean, 0.4 * x.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.6 + 0.4 * x.var((0, 2, 3)))


def test_multi_crop_is_the_weighted_mean_of_six_views() -> None:
    model, images = speedrun("multi_crop"), images_like_photographs(4)
    one_view = speedrun("none")
    model(images), one_view(images)  # statistics to evaluate with
    assert torch.equal(model(images), one_view(images)), "in training there is one view"
    model.eval(), one_view.eval()
    padded = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect"))
    expected = torch.zeros(4, 10)
    for (top, left), weight in {(1, 1): 1 / 4, (0, 0): 1 / 8, (2, 2): 1 / 8}.items():
        view = padded[:, :, top : top + 32, left : left + 32]
        expected += weight * (one_view(view) + one_view(torch.from_numpy(view.numpy()[..., ::-1].copy())))
    torch.testing.assert_close(model(images), expected)
    assert (model(images) - one_view(images)).abs().max() > 1e-3
