"""The test images that a variant's networks got wrong with the highest confidence."""

import base64
import io
from typing import Any

import pandas as pd
from PIL import Image
from torch import Tensor

NUM_IMAGES = 12  # a whole number of rows of 3, 4 and 6
QUALITY = 95  # without chroma subsampling: a third of a PNG's bytes, and no visible difference


def confident_mistakes(predictions: pd.DataFrame, images: Tensor, classes: list[str]) -> list[dict[str, Any]]:
    """All seeds' most confident mistakes; an image once, with its highest confidence. Ties go by index, then seed.

    `predictions`: rows of `predictions_table` of the split that has `images`, uint8 [N, 3, 32, 32]. Each entry has
    index, seed, label, prediction, confidence and jpeg, the image in base64. Predictions without confidence, those of
    non-finite weights, are left out.
    """
    wrong = predictions[predictions["label"] != predictions["prediction"]].dropna(subset="confidence")
    ranked = wrong.sort_values(["confidence", "index", "seed"], ascending=[False, True, True])
    return [
        {
            "index": int(row["index"]),
            "seed": int(row["seed"]),
            "label": classes[int(row["label"])],
            "prediction": classes[int(row["prediction"])],
            "confidence": round(float(row["confidence"]), 6),
            "jpeg": _jpeg(images[int(row["index"])]),
        }
        for row in ranked.drop_duplicates("index").head(NUM_IMAGES).to_dict("records")
    ]


def _jpeg(image: Tensor) -> str:
    buffer = io.BytesIO()
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    pixels.save(buffer, "jpeg", quality=QUALITY, subsampling=0, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
