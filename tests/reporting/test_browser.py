"""The page in headless Chromium, opened from disk, on a phone and on a desk."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation.reporting.page import Report
from tests.reporting.fake_study import TEST, VARIANTS

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: apt-get install chromium chromium-driver"
)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
CHARTS = ["accuracy", "forest", "forest_figures", "forest_loss", "sweep_learning_rate", "sweep_l2"]
CHARTS += ["curves", "per_class", "confusion", "mistakes", "weights", "gradients", "cost"]
TABLES = ["ablation-table", "comparison-table", "diagnostic-table"]


@pytest.fixture(scope="module")
def path(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=[390, 1280])
def opened(driver: Any, path: Path, request: pytest.FixtureRequest) -> Any:
    """The browser with the page open and drawn, at one of the widths."""
    for log in ("browser", "performance"):
        driver.get_log(log)
    size = {"width": request.param, "height": 900, "deviceScaleFactor": 1, "mobile": request.param < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(path.as_uri())
    wait(lambda: len(find(driver, ".chart svg")) == len(CHARTS) and len(find(driver, "table.dataTable")) == len(TABLES))
    return driver


def wait(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not come to this"
        time.sleep(0.05)


def find(driver: Any, selector: str) -> list[Any]:
    return list(driver.find_elements("css selector", selector))


def labels(driver: Any, chart: str) -> list[str]:
    """The ARIA labels of a chart's marks."""
    script = "return [...document.querySelectorAll(arguments[0])].map(mark => mark.getAttribute('aria-label'))"
    return list(driver.execute_script(script, f"#chart-{chart} svg [aria-roledescription][aria-label]"))


def choose(driver: Any, element: str, value: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(find(driver, f"#{element}")[0]).select_by_value(value)


def first_column(driver: Any, table: str = "ablation-table") -> list[str]:
    script = f"return [...document.querySelectorAll('#{table} tbody th')].map(cell => cell.dataset.order)"
    return list(driver.execute_script(script))


def test_the_page_opens_without_complaint_or_network(opened: Any) -> None:
    assert opened.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("file:") for url in urls)
    assert [
        url for url in urls if not url.startswith(("file:", "data:", "blob:", "chrome:", "chrome-untrusted:"))
    ] == []


def test_nothing_is_wider_than_the_screen(opened: Any) -> None:
    script = "return [document.documentElement.scrollWidth, window.innerWidth]"
    width, screen = opened.execute_script(script)
    assert width <= screen


@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_is_drawn_and_described(opened: Any, chart: str) -> None:
    (svg,) = find(opened, f"#chart-{chart} svg")
    assert svg.size["height"] > 50
    assert svg.size["width"] > 200
    assert "digits, not official CIFAR-10" in find(opened, f"#chart-{chart}")[0].get_attribute("aria-label")
    assert len(labels(opened, chart)) > 3


def test_the_table_sorts_by_its_numbers(opened: Any) -> None:
    by_accuracy = sorted(VARIANTS, key=lambda name: sum(TEST[name].values()))
    assert first_column(opened) == by_accuracy[::-1]

    heading = find(opened, "#ablation-table thead th")[3]
    assert heading.text == "test accuracy, %"
    opened.execute_script("arguments[0].click()", heading)
    wait(lambda: first_column(opened) == by_accuracy)
    assert heading.get_attribute("aria-sort") == "ascending"
    opened.execute_script("arguments[0].click()", heading)
    wait(lambda: first_column(opened) == by_accuracy[::-1])


@pytest.mark.parametrize("name", ["effect [95 %]", "measured", "p (Holm)", "on the test images"])
def test_the_comparisons_sort_by_their_numbers(name: str, opened: Any) -> None:
    headings = find(opened, "#comparison-table thead th")
    column = [heading.text for heading in headings].index(name) + 1
    script = (
        f"return [...document.querySelectorAll('#comparison-table td:nth-child({column})')].map(c => c.dataset.order)"
    )

    opened.execute_script("arguments[0].click()", headings[column - 1])

    wait(lambda: headings[column - 1].get_attribute("aria-sort") == "ascending")
    numbers = [float(text) for text in opened.execute_script(script) if text]
    assert numbers == sorted(numbers) and len(set(numbers)) > 1


def test_the_table_filters(opened: Any) -> None:
    search = find(opened, ".dt-search input")[0]
    search.send_keys("resnet")
    wait(lambda: first_column(opened) == ["resnet20"])
    opened.execute_script("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", search)
    wait(lambda: len(first_column(opened)) == len(VARIANTS))


def test_the_classes_are_those_of_the_variant_chosen(opened: Any) -> None:
    def right() -> int:
        """Test images on the diagonal of the confusion matrix."""
        cells = [
            re.search(r"prediction: (\w+); label: (\w+);.*count: (\d+)", label) for label in labels(opened, "confusion")
        ]
        return sum(int(cell[3]) for cell in cells if cell and cell[1] == cell[2])

    for variant in ("simple_nn", "resnet20"):
        choose(opened, "choose-variant", variant)
        wait(lambda variant=variant: right() == round(100 * sum(TEST[variant].values())))
        means = [re.search(r"^mean: ([\d.]+)", label) for label in labels(opened, "per_class")]
        drawn = [float(mean[1]) for mean in means if mean]
        assert sum(drawn) / 10 == pytest.approx(100 * sum(TEST[variant].values()) / 3, abs=0.001)


def test_the_mistakes_are_those_of_the_variant_chosen(opened: Any, path: Path, report: Report) -> None:
    def told() -> list[str]:
        return [label for label in labels(opened, "mistakes") if label.startswith("Test image ")]

    for variant in ("simple_nn", "resnet20"):
        mine = report.classes.mistakes[report.classes.mistakes["variant"] == variant]
        wanted = [
            f"Test image {row['index']}: {row['label']}, taken for {row['prediction']} with a confidence of "
            f"{100 * row['confidence']:.1f}%, seed {row['seed']}"
            for row in mine.to_dict("records")
        ]
        choose(opened, "choose-variant", variant)
        # Each image, and the words beneath it, say the same.
        wait(lambda wanted=wanted: told() == wanted * 2)
        images = find(opened, "#chart-mistakes svg image")
        assert [image.get_attribute("aria-label") for image in images] == wanted
        boxes = [(round(image.rect["x"]), round(image.rect["y"])) for image in images]
        assert len(set(boxes)) == len(wanted) and boxes == sorted(boxes, key=lambda box: (box[1], box[0]))
        assert max(x for x, _ in boxes) + 64 <= opened.execute_script("return window.innerWidth")


def test_the_images_are_loaded_and_crisp(opened: Any) -> None:
    script = """const done = arguments[0]; const marks = [...document.querySelectorAll('#chart-mistakes svg image')];
        Promise.all(marks.map(mark => { const image = new Image(); image.src = mark.href.baseVal;
            return image.decode().then(() => [image.width, image.height, getComputedStyle(mark).imageRendering]); }))
        .then(done)"""
    choose(opened, "choose-variant", "simple_nn")
    wait(lambda: len(find(opened, "#chart-mistakes svg image")) == 12)
    assert opened.execute_async_script(script) == [[32, 32, "pixelated"]] * 12


def test_weights_and_gradients_are_those_of_the_variants_chosen(opened: Any) -> None:
    def shown(chart: str) -> set[str]:
        return {found[1] for label in labels(opened, chart) if (found := re.search(r"variant: ([\w-]+)", label))}

    for other in ("l2_0", "simple_nn"):
        choose(opened, "choose-diagnosed-second", other)
        for chart in ("weights", "gradients"):
            wait(lambda chart=chart, other=other: shown(chart) == {"resnet20", other})


def test_the_diagnostics_sort_with_what_has_no_value_apart(opened: Any) -> None:
    headings = find(opened, "#diagnostic-table thead th")
    names = [heading.text for heading in headings]
    for name, rising in (("epochs to 60 %", ["resnet20", "l2_0", "simple_nn", "lr_1e-0"]),):
        heading = headings[names.index(name)]
        opened.execute_script("arguments[0].click()", heading)
        wait(lambda rising=rising: first_column(opened, "diagnostic-table") == rising)
        opened.execute_script("arguments[0].click()", heading)
        wait(lambda rising=rising: first_column(opened, "diagnostic-table") == rising[::-1])


def test_the_curves_are_those_of_the_variants_chosen(opened: Any) -> None:
    def shown() -> set[str]:
        return {found[1] for label in labels(opened, "curves") if (found := re.search(r"variant: ([\w-]+)", label))}

    choose(opened, "choose-second", "l2_0")
    wait(lambda: shown() == {"resnet20", "l2_0"})
    choose(opened, "choose-second", "simple_nn")
    wait(lambda: shown() == {"resnet20", "simple_nn"})


def test_the_cost_is_the_one_chosen(opened: Any) -> None:
    choose(opened, "choose-measure", "parameters")
    wait(lambda: any("272.474k" in label and "resnet20" in label for label in labels(opened, "cost")))
    choose(opened, "choose-measure", "multiply_adds")
    wait(lambda: not any("272.474k" in label for label in labels(opened, "cost")))
