"""SimpleNN: two convolutions and three fully connected layers, 82,030 parameters without batch norm."""

from torch import Tensor, nn

from ablation.models.layers import ACTIVATIONS, Conv2d, conv_pool
from ablation.models.params import SimpleNNParams


class SimpleNN(nn.Module):
    """Images float [N, 3, 32, 32] -> logits [N, 10]. No padding, biases everywhere, PyTorch's initialisation."""

    def __init__(self, params: SimpleNNParams) -> None:
        super().__init__()
        self.activation = params.activation
        self.conv1 = Conv2d(3, 8, 5)
        self.bn1 = nn.BatchNorm2d(8) if params.batch_norm else nn.Identity()
        self.conv2 = Conv2d(8, 16, 3)
        self.bn2 = nn.BatchNorm2d(16) if params.batch_norm else nn.Identity()
        self.fc1 = nn.Linear(576, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.dropout = nn.Dropout(params.dropout) if params.dropout else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        activation = ACTIVATIONS[self.activation]
        x = conv_pool(images, self.conv1, self.bn1, self.activation)  # [N, 8, 14, 14]
        x = conv_pool(x, self.conv2, self.bn2, self.activation)  # [N, 16, 6, 6]
        x = x.flatten(1)  # [N, 576]
        x = self.dropout(activation(self.fc1(x)))
        x = self.dropout(activation(self.fc2(x)))
        logits: Tensor = self.fc3(x)
        return logits
