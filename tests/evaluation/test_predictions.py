import io
import math

import pandas as pd
import pytest
import torch
from scipy.special import softmax
from torch import nn

from ablation.data.splits import Statistics
from ablation.evaluation.predictions import predict, predictions_table
from ablation.models.build import build_model
from ablation.models.params import ModelParams, ResNet20Params, SimpleNNParams

STATISTICS = Statistics((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), [str(k) for k in range(10)])
MODELS: list[ModelParams] = [
    SimpleNNParams(name="simple_nn", batch_norm=True, activation="swish", dropout=0.5),
    ResNet20Params(name="resnet20", shortcut="projection", convolution="standard"),
]


def model_and_images(params: ModelParams, num_images: int) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    images = torch.randint(256, (num_images, 3, 32, 32), dtype=torch.uint8)
    return build_model(params).eval(), images


@pytest.mark.parametrize("params", MODELS, ids=lambda p: p.name)
def test_equals_one_image_at_a_time_normalised_by_hand(params: ModelParams) -> None:
    model, images = model_and_images(params, 7)
    logits = predict(model, images, STATISTICS, batch_size=3)
    assert logits.dtype == torch.float32 and logits.shape == (7, 10) and not logits.requires_grad
    for image, row in zip(images, logits, strict=True):
        channels = [(image[c].double() / 255 - STATISTICS.mean[c]) / STATISTICS.std[c] for c in range(3)]
        expected = model(torch.stack(channels).float()[None])[0]
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("params", MODELS, ids=lambda p: p.name)
def test_batch_size_changes_no_prediction(params: ModelParams) -> None:
    model, images = model_and_images(params, 50)
    whole = predict(model, images, STATISTICS, batch_size=1000)
    for batch_size in (1, 7, 50):
        logits = predict(model, images, STATISTICS, batch_size)
        assert torch.equal(logits.argmax(1), whole.argmax(1))
        torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-4)


def test_table() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, -1.0, 0.0]])
    table = predictions_table(5, "val", torch.tensor([1, 2]), logits)
    assert table.columns.tolist() == ["seed", "split", "index", "label", "prediction", "confidence"]
    assert table.drop(columns="confidence").values.tolist() == [[5, "val", 0, 1, 1], [5, "val", 1, 2, 0]]
    assert table["confidence"].tolist() == pytest.approx(softmax(logits.numpy(), axis=1).max(1).tolist())


def test_a_diverged_network_predicts_class_0_without_confidence() -> None:
    model, images = model_and_images(MODELS[0], 4)
    for parameter in model.parameters():
        nn.init.constant_(parameter, math.nan)
    table = predictions_table(0, "test", torch.tensor([0, 1, 2, 3]), predict(model, images, STATISTICS, 2))
    assert table["prediction"].tolist() == [0, 0, 0, 0]
    text = table.to_csv(index=False)
    assert text.splitlines()[1] == "0,test,0,0,0,"
    assert pd.read_csv(io.StringIO(text))["confidence"].isna().all()
