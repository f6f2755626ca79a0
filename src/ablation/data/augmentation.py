"""Random crop of the image padded by 4 and horizontal flip (He et al. 2015): whole batches, each image on its own."""

from torch import Tensor

PADDING = 4  # pixels, black as in the raw image
NUM_OFFSETS = 2 * PADDING + 1


def windows(images: Tensor) -> Tensor:
    """All 2 x 9 x 9 flipped and shifted versions of each image, as a view of one padded copy.

    images: uint8 [N, 3, H, W]. Returns uint8 [2, N, 9, 9, H, W, 3]: flip, image, top, left, then the crop.
    The view reads memory of [2, N, H + 8, W + 8, 3], so cutting a batch of crops is one gather.
    """
    n, c, h, w = images.shape
    padded = images.new_zeros(2, n, h + 2 * PADDING, w + 2 * PADDING, c)
    inner = padded[:, :, PADDING : PADDING + h, PADDING : PADDING + w]
    inner[0] = images.permute(0, 2, 3, 1)
    inner[1] = images.flip(3).permute(0, 2, 3, 1)
    flip, image, row, column, channel = padded.stride()
    return padded.as_strided(
        (2, n, NUM_OFFSETS, NUM_OFFSETS, h, w, c), (flip, image, row, column, row, column, channel)
    )


def crop_flip(windows: Tensor, flips: Tensor, index: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
    """The crop of image `index[i]`, mirrored where `flips[i]` is 1, with offsets `tops[i], lefts[i]` (0..8).

    windows: from `windows`; the others: integer [B]. Returns uint8 [B, H, W, 3].
    """
    return windows[flips, index, tops, lefts]
