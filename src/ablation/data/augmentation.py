"""Random crops of the padded image and horizontal flips: batch by batch, each image with its own."""

from typing import NamedTuple

from torch import Tensor


class Augmentation(NamedTuple):
    padding: int  # pixels on each side
    reflect: bool  # reflection padding (edge pixels not repeated); else black in the raw image
    alternating_flip: bool  # at random in the first epoch, then alternating; else at random in every epoch

    @property
    def num_offsets(self) -> int:
        """Positions of a crop along one axis."""
        return 2 * self.padding + 1


CROP_FLIP = Augmentation(padding=4, reflect=False, alternating_flip=False)  # He et al. 2015, arXiv 1512.03385
# Jordan 2024, arXiv 2404.00498, sections 3.1 and 3.6
SHIFT_ALTERNATING_FLIP = Augmentation(padding=2, reflect=True, alternating_flip=True)
AUGMENTATIONS = {"crop_flip": CROP_FLIP, "shift_alternating_flip": SHIFT_ALTERNATING_FLIP}


def windows(images: Tensor, augmentation: Augmentation = CROP_FLIP) -> Tensor:
    """All flipped and shifted versions of each image, as a view of one padded copy.

    images: uint8 [N, 3, H, W]. Returns uint8 [2, N, K, K, H, W, 3]: flip, image, top and left, K = 2 * padding + 1
    offsets each, then the crop. The underlying memory is [2, N, H + K - 1, W + K - 1, 3].
    """
    n, c, h, w = images.shape
    k, p = augmentation.num_offsets, augmentation.padding
    padded = images.new_zeros(2, n, h + 2 * p, w + 2 * p, c)
    inner = padded[:, :, p : p + h, p : p + w]
    for part, place in zip(images.split(1000), inner.split(1000, dim=1), strict=True):  # few enough for the CPU's cache
        part = part.permute(0, 2, 3, 1).contiguous()
        place[0], place[1] = part, part.flip(2)
    if augmentation.reflect:
        for side, length in ((padded, h), (padded.transpose(2, 3), w)):  # rows, then columns including the corners
            for i in range(1, p + 1):
                side[:, :, p - i] = side[:, :, p + i]
                side[:, :, p + length - 1 + i] = side[:, :, p + length - 1 - i]
    flip, image, row, column, channel = padded.stride()
    return padded.as_strided((2, n, k, k, h, w, c), (flip, image, row, column, row, column, channel))


def take_crops(windows: Tensor, flips: Tensor, index: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
    """The crop of image `index[i]`, mirrored where `flips[i]` is 1, with offsets `tops[i], lefts[i]` (0..2 * padding).

    windows: from `windows`; the others: integer [B]. Returns uint8 [B, H, W, 3].
    """
    if windows.device.type != "cpu":
        return windows[flips, index, tops, lefts]
    # On a CPU that copies byte by byte. In a view with a crop starting at every byte, whole rows are copied at once.
    (*counts, h, w, c), strides = windows.shape, windows.stride()
    last = sum((n - 1) * stride for n, stride in zip(counts, strides, strict=False))
    crops = windows.as_strided((last + 1, h, w * c), (1, strides[4], 1))
    begins = flips * strides[0] + index * strides[1] + tops * strides[2] + lefts * strides[3]
    return crops.index_select(0, begins).view(-1, h, w, c)


def unaugmented(windows: Tensor) -> Tensor:
    """The original images, uint8 [N, H, W, 3], from what `windows` returned: not flipped, the central crop."""
    padding = windows.shape[2] // 2
    return windows[0, :, padding, padding]
