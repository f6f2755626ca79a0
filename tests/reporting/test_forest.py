"""The forest plots."""

import pytest

from ablation.reporting import forest
from ablation.reporting.comparison_tables import claim_texts
from ablation.reporting.page import Report
from ablation.reporting.style import VERDICTS
from tests.reporting.test_page import specs


def test_a_forest_plot_draws_effects_in_points_within_their_claims(report: Report) -> None:
    groups = forest.groups(report.compared.rows)
    assert [row.name for row in groups["forest_loss"]] == ["first_batch_loss"]
    assert [row.name for row in groups["forest_figures"]] == ["resnet20", "lr_1e-0", "plateau"]

    spec = forest.forest(groups["forest"], claim_texts(report.params.comparisons), "digits").to_dict()
    rows = {row["name"]: row for part in spec["datasets"].values() for row in part if "name" in row}
    assert list(rows) == [row.name for row in groups["forest"]]
    skip = rows["skip_connections"]
    assert (skip["difference"], skip["low"], skip["high"]) == pytest.approx((29, 26.516, 31.484), abs=1e-3)
    assert (skip["band_low"], skip["claim_high"]) == (0, None)
    domain = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert skip["band_high"] == domain[1] > 31.484

    spec = forest.forest(groups["forest_figures"], claim_texts(report.params.comparisons), "digits").to_dict()
    rows = {row["name"]: row for part in spec["datasets"].values() for row in part if "name" in row}
    assert (rows["resnet20"]["band_low"], rows["resnet20"]["band_high"]) == pytest.approx((-1, 1))
    assert (rows["plateau"]["verdict"], rows["plateau"]["difference"]) == ("not comparable", pytest.approx(0))


def test_a_forest_plot_of_losses_is_in_nats(html: str) -> None:
    charts = specs(html)
    (row,) = [row for rows in charts["forest_loss"]["datasets"].values() for row in rows if "difference" in row]
    assert row["difference"] == pytest.approx(0.0028) and row["seeds"] == "3"
    titles = [charts[name]["layer"][0]["encoding"]["x"]["title"] for name in ("forest", "forest_loss")]
    assert titles == ["percentage points (symmetric log scale)", "nats"]
    for name in ("forest", "forest_loss"):
        encodings = [layer["encoding"] for layer in charts[name]["layer"]]
        marks = [(encoding["x"].get("field"), encoding.get("x2", {}).get("field")) for encoding in encodings]
        assert marks == [("band_low", "band_high"), ("zero", None), ("low", "high"), ("difference", None), (None, None)]


def test_verdicts_have_their_colours(html: str) -> None:
    point = specs(html)["forest"]["layer"][3]["encoding"]
    colours = dict(zip(point["color"]["scale"]["domain"], point["color"]["scale"]["range"], strict=True))
    assert colours == dict(zip(VERDICTS, ["#0072b2", "#d55e00", "#767676", "#767676"], strict=True))
