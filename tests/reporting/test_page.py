"""The page as it is written: complete, self-contained, and the same for the same runs."""

import base64
import json
import re
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
import vl_convert

from ablation.analysis.classes import Classes
from ablation.analysis.comparisons import Comparisons
from ablation.analysis.layers import Layers
from ablation.reporting import cost, words
from ablation.reporting.page import Report, page
from tests.reporting.fake_study import COMPARISONS, TEST, VARIANTS

LIMIT = 5_000_000  # bytes


class Tables(HTMLParser):
    """The text of every cell, table by table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.table, self.in_cell = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.table = dict(attrs).get("id") or "facts"
            self.rows[self.table] = []
        elif tag == "tr":
            self.rows[self.table].append([])
        elif tag in ("td", "th"):
            self.rows[self.table][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[self.table][-1][-1] += data


def specs(html: str) -> dict[str, dict[str, Any]]:
    pattern = r'<script type="application/json" class="spec" data-chart="chart-(\w+)">(.*?)</script>'
    return {name: json.loads(spec) for name, spec in re.findall(pattern, html)}


def test_the_page_is_small_loads_nothing_and_has_each_library_once(html: str) -> None:
    assert len(html.encode()) < LIMIT
    markup = re.sub(r"<script\b.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:)', markup)
    assert not re.findall(r"<script[^>]*src", html.partition("<main>")[2].replace(vl_convert.javascript_bundle(), ""))
    assert not re.findall(r"@import|url\((?!data:)", html.partition("<body>")[0])
    assert html.count(vl_convert.javascript_bundle()[:2000]) == 1
    assert html.count("data:text/javascript;base64,") == 1


def test_the_page_of_a_large_study_is_small(report: Report) -> None:
    """28 variants of 200 epochs, with images as large as photographs become."""

    def copies(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([rows.assign(variant=rows["variant"] + f"_of_some_length_{k}") for k in range(7)])

    epochs = range(1, 201)
    first = report.curves[(report.curves["epoch"] == 1) & (report.curves["seed"] < 2)]
    curves = pd.concat([first.assign(epoch=k, val_accuracy=k / 211, train_accuracy=k / 203) for k in epochs])
    photograph = base64.b64encode(bytes(900)).decode()
    classes = report.classes._replace(mistakes=report.classes.mistakes.assign(jpeg=photograph))

    large = page(
        report._replace(
            runs=copies(report.runs.assign(diverged_epoch=pd.NA)),
            curves=copies(curves),
            classes=Classes(*(copies(part) for part in classes)),
            layers=Layers(*(copies(part) for part in report.layers)),
        )
    )

    drawn = [row for rows in specs(large)["curves"]["datasets"].values() for row in rows]
    assert len(drawn) == 28 * 2 * 200
    assert len(large.encode()) < LIMIT


def test_the_page_is_the_same_for_the_same_runs(report: Report, html: str) -> None:
    assert page(report) == html


def test_other_data_are_announced_before_anything_else(report: Report, html: str) -> None:
    body = html.partition("<body>")[2]
    assert body.lstrip().startswith('<p class="alarm" role="alert">THIS IS NOT CIFAR-10. The data are digits:')
    official = page(report._replace(params=report.params.model_copy(update={"label": "cifar10"})))
    assert "NOT CIFAR-10" not in official
    assert "<h1>Ablation on official CIFAR-10</h1>" in official


def test_what_was_run(html: str) -> None:
    facts = {row[0]: row[1] for row in Tables(html).rows["facts"]}

    assert facts["data"] == "digits, not official CIFAR-10"
    assert facts["images"] == "100 training, 100 validation, 100 test"
    assert facts["variants"] == "4: simple_nn, lr_1e-0, l2_0, resnet20"
    assert (facts["seeds"], facts["device"], facts["torch"]) == ("0, 1, 2", "cpu", "2.14.1")
    assert facts["evaluated on"] == "another cpu, torch 2.14.1"
    time = "1.1 minutes, summed over 12 runs"  # 2 s an epoch: 3 x 3 x 6 + 6 + 4 + 2 = 66 s
    assert facts["training time"] == time
    assert facts["commit"] == "1234567, with uncommitted changes in src"
    assert facts["committed"] == "2024-05-06 07:08:09 +0000"
    assert facts["settings changed"] == "seeds: [0] → [0, 1, 2]\ntrain.lr: absent → 0.1"


def test_what_git_does_not_tell_is_absent(report: Report) -> None:
    facts = {row[0] for row in Tables(page(report._replace(provenance={}))).rows["facts"]}

    assert facts & {"commit", "committed", "settings changed"} == set()
    assert {"data", "seeds", "device"} <= facts


def test_published_results_compare_with_official_data_only(report: Report, html: str) -> None:
    _, *rows = Tables(html).rows["published-table"]
    assert [row[1] for row in rows] == ["91.25", "91.73", "92.60", "94.01"]
    assert all(row[2] for row in rows)

    words = "The data of this page are digits: their accuracies are not comparable with these."
    official = page(report._replace(params=report.params.model_copy(update={"label": "cifar10"})))
    assert words in html and "are not comparable with these" not in official


def test_the_ablation_has_a_row_per_variant_best_first(html: str) -> None:
    _, *rows = Tables(html).rows["ablation-table"]

    assert [row[0].partition("diverged")[0] for row in rows] == ["resnet20", "l2_0", "simple_nn", "lr_1e-0"]
    # 4.303 * 0.02 / sqrt 3 = 0.0497 for both
    assert rows[2][1:] == ["3", "62.00 ± 4.97", "60.00 ± 4.97", "+3.00", "82,030", "1.12", "6.0", "1,200"]
    assert rows[3][0] == "lr_1e-0diverged at epoch 1 (seed 2); diverged at epoch 2 (seed 1)"


def test_every_comparison_has_a_row_with_its_verdict_or_its_reason(html: str) -> None:
    _, *rows = Tables(html).rows["comparison-table"]

    answers = [row[2].partition(" ")[2] for row in rows]
    assert answers == [row[-1] for row in COMPARISONS.values()][:-1]
    assert rows[0][0] == "Title of skip_connectionsmodel.name: simple_nn → resnet20"
    effect = "+29.00 [+26.52, +31.48]"
    assert rows[0][1:7] == [effect, "✓ supported", "higher", "91.00 against 62.00", "3", "0.0004"]
    assert rows[1][0] == "Title of l2_too_strongweight_decay: 0.0001 → 0.0"
    assert "<li>Title of swish: simple_nn_bn_swish is not in the study</li>" in html


def test_the_effects_of_changes_are_on_the_first_screen(html: str) -> None:
    assert html.index('id="effect-table"') < html.index('class="tally"') < html.index("<h2>")
    _, *rows = Tables(html).rows["effect-table"]
    assert rows == [
        ["Title of skip_connections", "+29.00 [+26.52, +31.48]", "✓ supported", "higher", "3"],
        ["Title of l2_too_strong", "+8.00 [+3.03, +12.97]", "✗ contradicted", "lower", "3"],
    ]


def test_every_statement_has_a_card(html: str) -> None:
    cards = html.partition('id="statements">')[2].partition("</ol>")[0]

    assert re.findall(r"<strong>(\d+)\. ", cards) == [str(number) for number in range(1, 13)]
    assert cards.count("not run</span>") == 9 and cards.count("Tested: ") == 12


def test_every_chart_describes_itself_names_its_data_and_has_what_it_draws(html: str) -> None:
    charts = specs(html)

    assert set(charts) == {
        *("accuracy", "forest", "forest_figures", "forest_loss", "sweep_learning_rate", "sweep_l2"),
        *("curves", "per_class", "confusion", "mistakes", "weights", "gradients", "cost"),
    }
    for name, spec in charts.items():
        assert "digits, not official CIFAR-10" in spec["description"], name
        assert spec["width"] == "container", name
        assert max(len(rows) for rows in spec["datasets"].values()) > 0, name


def test_the_inputs_offer_every_variant_and_name_those_the_charts_start_with(html: str) -> None:
    for element, chosen in (
        ("choose-first", "resnet20"),
        ("choose-second", "simple_nn"),
        ("choose-variant", "resnet20"),
        ("choose-diagnosed-first", "resnet20"),
        ("choose-diagnosed-second", "simple_nn"),
    ):
        options = html.partition(f'<select id="{element}"')[2].partition("</select>")[0]
        assert re.findall(r'<option value="([^"]+)"', options) == list(VARIANTS)
        assert f'<option value="{chosen}" selected>' in options
    chosen = {
        "curves": ["first", "second"],
        **{name: ["variant"] for name in ("per_class", "confusion", "mistakes")},
        **{name: ["diagnosed-first", "diagnosed-second"] for name in ("weights", "gradients")},
    }
    for name, elements in chosen.items():
        bound = {entry["name"]: entry["bind"]["element"] for entry in specs(html)[name]["params"]}
        assert bound == {element.removeprefix("diagnosed-"): f"#choose-{element}" for element in elements}


def test_a_study_that_compares_nothing_has_a_page_that_says_so(report: Report) -> None:
    nothing = page(report._replace(compared=Comparisons([], dict.fromkeys(COMPARISONS, "not in the study"))))

    assert "No comparison could be made" in nothing
    assert "forest" not in specs(nothing)
    assert "Comparisons not run: 9" in nothing


def test_one_seed_has_no_interval_anywhere(one_seed_report: Report) -> None:
    html = page(one_seed_report)

    assert not [row for row in Tables(html).rows["ablation-table"] if "±" in "".join(row)]
    drawn = [row for rows in specs(html)["forest"]["datasets"].values() for row in rows if "difference" in row]
    assert drawn
    assert all(row["low"] is None for row in drawn)


def test_the_cheapest_and_what_beats_it_are_named(report: Report) -> None:
    rows = [row for rows in cost.cost(report.runs, "digits").to_dict()["datasets"].values() for row in rows]
    points = {row["variant"]: row for row in rows if row["measure"] == "parameters"}

    assert {name for name, row in points.items() if row["best"]} == {"l2_0", "resnet20"}
    assert {name for name, row in points.items() if row["named"]} == {"l2_0", "resnet20"}
    assert points["l2_0"]["left"] and not points["resnet20"]["left"]
    assert points["simple_nn"]["accuracy"] == pytest.approx(sum(TEST["simple_nn"].values()) / 3)


def test_more_images_per_second_are_cheaper(report: Report) -> None:
    speeds = {"simple_nn": 400.0, "l2_0": 300.0, "resnet20": 100.0, "lr_1e-0": 200.0}
    runs = report.runs.assign(images_per_second=report.runs["variant"].map(speeds))
    rows = [row for rows in cost.cost(runs, "digits").to_dict()["datasets"].values() for row in rows]

    best = {row["variant"] for row in rows if row["measure"] == "images_per_second" and row["best"]}
    assert best == {"simple_nn", "l2_0", "resnet20"}


def test_what_diverged_was_not_cheap_to_train(report: Report) -> None:
    rows = [row for rows in cost.cost(report.runs, "digits").to_dict()["datasets"].values() for row in rows]
    trained = {row["variant"] for row in rows if row["measure"] == "seconds"}
    assert trained == {"simple_nn", "l2_0", "resnet20"} < {row["variant"] for row in rows}


def test_the_line_joins_each_cost_to_what_no_more_buys(report: Report) -> None:
    """Between two parameter counts the accuracy of the smaller network, between two speeds that of the faster one."""
    layers = cost.cost(report.runs, "digits").to_dict()["layer"]
    steps = {layer["mark"]["interpolate"]: layer["transform"] for layer in layers if layer["mark"]["type"] == "line"}
    filters = {step: [entry["filter"] for entry in transforms] for step, transforms in steps.items()}
    assert "datum.measure != 'images_per_second'" in filters["step-after"]
    assert "datum.measure == 'images_per_second'" in filters["step-before"]


def test_how_many_seeds_in_words() -> None:
    def runs(*numbers: int) -> pd.DataFrame:
        return pd.DataFrame(
            [{"variant": i, "seed": seed} for i, number in enumerate(numbers) for seed in range(number)]
        )

    texts = [words.seeds_per_variant(runs(*of)) for of in ([1, 1], [3, 3], [1, 3])]
    assert texts == ["one seed", "3 seeds", "1 to 3 seeds"]
    assert words.max_seeds(runs(1, 3)) == 3


def test_the_tally_counts_the_verdicts(html: str) -> None:
    tally = re.findall(r'<li><b>(\d+)</b><span class="verdict ([\w-]+)">', html)
    assert tally == [
        *(("3", "supported"), ("1", "contradicted"), ("3", "undecided")),
        *(("1", "not-comparable"), ("1", "not-run")),
    ]
