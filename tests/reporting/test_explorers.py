"""The charts whose variants a reader chooses."""

import re

import pandas as pd
import pytest
import vl_convert

from tests.reporting.fake_study import VARIANTS
from tests.reporting.test_page import specs


def test_a_confusion_is_a_share_of_its_label(html: str) -> None:
    (rows,) = specs(html)["confusion"]["datasets"].values()
    shares = pd.DataFrame(rows).groupby(["variant", "label"])["share"].sum()
    assert len(shares) == 10 * len(VARIANTS) and shares.to_list() == pytest.approx([1] * len(shares), abs=0.002)


def test_the_words_beneath_a_mistake_are_its_label_then_the_prediction(html: str) -> None:
    (svg,) = [vl_convert.vegalite_to_svg(specs(html)["mistakes"] | {"width": 600, "height": 270})]
    label, prediction = re.search(r"Test image \d+: (\w+), taken for (\w+) ", svg).groups()
    words = re.findall(r"<tspan[^>]*>([^<]*)</tspan>", svg)
    assert words[:2] == [label, f"→ {prediction}"]


def test_the_curves_have_the_colours_of_their_legend(html: str) -> None:
    svg = vl_convert.vegalite_to_svg(specs(html)["curves"] | {"width": 400})
    colours = dict(re.findall(r'aria-label="[^"]*variant: ([\w-]+)[^"]*"[^>]*stroke="(#\w+)"', svg))
    assert colours == {"resnet20": "#0072b2", "simple_nn": "#d55e00"}


def test_a_confusion_has_labels_as_rows_and_predictions_as_columns(html: str) -> None:
    for layer in specs(html)["confusion"]["layer"]:
        axes = [(axis["field"], axis["title"]) for axis in (layer["encoding"]["x"], layer["encoding"]["y"])]
        assert axes == [("prediction", "prediction"), ("label", "label")]
