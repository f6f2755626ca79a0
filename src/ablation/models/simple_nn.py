"""SimpleNN: two convolutions and three fully connected layers, 82,030 parameters without batch norm."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models.convolution import UnpaddedConv2d
from ablation.models.params import SimpleNNParams

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "swish": F.silu,  # x * sigmoid(x)
}
SLOPES = {"relu": 0.0, "leaky_relu": 0.01}  # for negative values; of the monotone ones


class SimpleNN(nn.Module):
    """Images float [N, 3, 32, 32] -> logits [N, 10]. No padding, biases everywhere, PyTorch's initialisation."""

    def __init__(self, params: SimpleNNParams) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[params.activation]
        # Swish falls until -1.28 before it rises: there the order of activation and max-pooling matters.
        self.slope = SLOPES.get(params.activation)
        self.conv1 = UnpaddedConv2d(3, 8, 5)
        self.bn1 = nn.BatchNorm2d(8) if params.batch_norm else nn.Identity()
        self.conv2 = UnpaddedConv2d(8, 16, 3)
        self.bn2 = nn.BatchNorm2d(16) if params.batch_norm else nn.Identity()
        self.fc1 = nn.Linear(576, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.dropout = nn.Dropout(params.dropout) if params.dropout else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = self._block(images, self.conv1, self.bn1)  # [N, 8, 14, 14]
        x = self._block(x, self.conv2, self.bn2)  # [N, 16, 6, 6]
        x = x.flatten(1)  # [N, 576]
        x = self.dropout(self.activation(self.fc1(x)))
        x = self.dropout(self.activation(self.fc2(x)))
        logits: Tensor = self.fc3(x)
        return logits

    def _block(self, x: Tensor, conv: UnpaddedConv2d, bn: nn.Module) -> Tensor:
        if self.slope is None:
            return F.max_pool2d(self.activation(bn(conv(x))), 2)
        if isinstance(bn, nn.Identity):
            return conv.pooled(x, self.slope)
        return self.activation(F.max_pool2d(bn(conv(x)), 2))
