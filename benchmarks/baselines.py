"""What a user would write instead: the training loops of the tutorials, against which ours are measured."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ablation.data.splits import Split, Statistics
from ablation.models.params import SimpleNNParams

PADDING = 4  # pixels

Batches = Iterable[tuple[Tensor, Tensor]]  # images float [B, 3, 32, 32], labels int64 [B]


def simple_nn(params: SimpleNNParams) -> nn.Module:
    """SimpleNN layer by layer, as its table lists it; initialised from the same random state, it equals ours."""
    activation = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "swish": nn.SiLU}[params.activation]
    return nn.Sequential(
        nn.Conv2d(3, 8, 5),
        *([nn.BatchNorm2d(8)] if params.batch_norm else []),
        activation(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        *([nn.BatchNorm2d(16)] if params.batch_norm else []),
        activation(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(576, 120),
        activation(),
        nn.Linear(120, 84),
        activation(),
        nn.Linear(84, 10),
    )


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, device: torch.device
) -> tuple[float, float]:
    """One pass over `batches`; mean loss and accuracy, read from the device after every step as tutorials do."""
    model.train()
    total_loss, correct, num_images = 0.0, 0, 0
    for images, labels in batches:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(labels)
        correct += int((logits.argmax(1) == labels).sum().item())
        num_images += len(labels)
    return total_loss / num_images, correct / num_images


class Images(Dataset[tuple[Tensor, int]]):
    """A map-style data set, which transforms each image on access: float [3, 32, 32] and its label.

    image_type: "PIL", as torchvision.datasets.CIFAR10 gives them, or "tensor", which is faster.
    """

    def __init__(self, split: Split, statistics: Statistics, image_type: str, augmented: bool) -> None:
        self.images: Any = split.images
        if image_type == "PIL":
            self.images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.labels.tolist()
        self.transform = v2.Compose(
            [
                *([v2.RandomCrop(32, padding=PADDING), v2.RandomHorizontalFlip()] if augmented else []),
                *([v2.ToImage()] if image_type == "PIL" else []),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(statistics.mean), list(statistics.std)),
            ]
        )
        self.from_array = Image.fromarray if image_type == "PIL" else lambda tensor: tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.from_array(self.images[index])), self.labels[index]


def tensor_batches(images: Tensor, labels: Tensor, augmented: bool, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches of a data set that is normalised and on the device as a whole. images: float [N, 3, 32, 32]."""
    for index in torch.randperm(len(images), device=images.device).split(batch_size):
        batch = images[index]
        if augmented:
            flips = torch.rand(len(index), device=images.device) < 0.5
            tops, lefts = torch.randint(2 * PADDING + 1, (2, len(index)), device=images.device)
            batch = crop(torch.where(flips[:, None, None, None], batch.flip(3), batch), tops, lefts)
        yield batch, labels[index]


def crop(images: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
    """Image i padded by 4 and cropped at tops[i], lefts[i] (0..8), by indexing with grids of pixel coordinates."""
    n, c, h, w = images.shape
    padded = F.pad(images, [PADDING] * 4)
    rows = tops[:, None] + torch.arange(h, device=images.device)  # [N, H]
    columns = lefts[:, None] + torch.arange(w, device=images.device)  # [N, W]
    image = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(c, device=images.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
