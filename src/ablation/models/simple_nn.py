"""SimpleNN: two convolutions and three fully connected layers, 82,030 parameters without batch norm."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models.convolution import Conv2d, PairedConv2d
from ablation.models.params import SimpleNNParams

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,  # slope 0.01
    "swish": F.silu,  # x * sigmoid(x)
}


class SimpleNN(nn.Module):
    """Images float [N, 3, 32, 32] -> logits [N, 10]. No padding, biases everywhere, PyTorch's initialisation."""

    def __init__(self, params: SimpleNNParams) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[params.activation]
        # A monotone activation commutes with the maximum, in value and gradient, and on the pooled map it has a quarter
        # of the elements to pass. Swish falls until -1.28 before it rises: there the order matters.
        self.pool_first = params.activation != "swish"
        self.conv1 = PairedConv2d(3, 8, 5)
        self.bn1 = nn.BatchNorm2d(8) if params.batch_norm else nn.Identity()
        self.conv2 = Conv2d(8, 16, 3)
        self.bn2 = nn.BatchNorm2d(16) if params.batch_norm else nn.Identity()
        self.fc1 = nn.Linear(576, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.dropout = nn.Dropout(params.dropout) if params.dropout else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = self._activate_and_pool(self.bn1(self.conv1(images)))  # [N, 8, 14, 14]
        x = self._activate_and_pool(self.bn2(self.conv2(x)))  # [N, 16, 6, 6]
        x = x.flatten(1)  # [N, 576]
        x = self.dropout(self.activation(self.fc1(x)))
        x = self.dropout(self.activation(self.fc2(x)))
        logits: Tensor = self.fc3(x)
        return logits

    def _activate_and_pool(self, x: Tensor) -> Tensor:
        if self.pool_first:
            return self.activation(F.max_pool2d(x, 2))
        return F.max_pool2d(self.activation(x), 2)
