"""The README's results: written from the tables, and the committed ones still say what the tables say."""

import hashlib
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from ablation.analysis.comparisons import Comparisons
from ablation.analysis.params import ReportParams
from ablation.publishing import readme
from tests.reporting.conftest import read_report
from tests.reporting.fake_study import COMPARISONS, write_study
from tests.stages import run_stage

ROOT = Path(__file__).parents[2]
TEXT = "# Project\n\nbefore\n\n<!-- results -->\nold\n<!-- end of results -->\n\nafter\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake study and its results/, aggregated once."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
        run_stage("aggregate")
    return folder


@pytest.fixture(scope="module")
def compared(study: Path) -> Comparisons:
    return read_report(ReportParams.read(study / "configs/aggregate.yaml"), study / "runs").compared


@pytest.fixture
def workspace(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A README, and a copy of the results."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(study / "results", "results")
    Path("README.md").write_text(TEXT)
    return tmp_path


def publish(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["readme.py", *arguments])
    readme.main()
    return Path("README.md").read_text()


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table under `heading`."""
    part = text.partition(f"### {heading}\n")[2].partition("\n###")[0]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in part.splitlines() if line.startswith("|")]


def test_the_tables_are_those_of_the_results(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = publish(monkeypatch, "results")

    assert text.startswith("# Project\n\nbefore\n\n<!-- results -->\n") and text.endswith("results -->\n\nafter\n")
    assert "old" not in text
    assert (
        "The data: **digits, not official CIFAR-10**. 4 variants with 3 seeds each, trained on 100 images; device cpu, "
        "torch 2.14.1;" in text
    )
    _, _, *accuracies = rows(text, "Accuracy, best validation accuracy first")
    assert [row[0] for row in accuracies] == ["`resnet20`", "`l2_0`", "`simple_nn`", "`lr_1e-0`"]
    # 4.303 * 0.02 / sqrt 3 = 0.0497, and 4.303 * 0.01 / sqrt 3 = 0.0248: where seeds agree, their spread is one image
    assert accuracies[2][1:4] == ["3", "62.00 ± 4.97", "60.00 ± 4.97"]
    assert accuracies[1][2:4] == ["70.00 ± 2.48", "70.00 ± 2.48"]
    assert accuracies[3][-1] == "diverged at epoch 1 (seed 2); diverged at epoch 2 (seed 1)"
    _, _, *statements = rows(text, "The study's statements")
    table = pd.read_csv("results/statements.csv")
    assert [row[2] for row in statements] == [f"**{answer}**" for answer in table["answer"]]
    assert all(
        line in row[3] for row, said in zip(statements, table["evidence"], strict=True) for line in said.split("; ")
    )
    _, _, *figures = rows(text, "Figures that the study reports")
    numbers = [name for name, (*_, claim, _) in COMPARISONS.items() if claim["name"] == "number"]
    assert [row[0].partition(" (")[0] for row in figures] == [f"Title of {name}" for name in numbers]
    assert figures[0][1:] == [
        *("90.70 ± 1.00 %", "91.00", "+0.30 [-2.18, +2.78]", "3", "undecided (needs about 19 seeds)", "")
    ]


def test_the_same_results_give_the_same_text_and_others_another(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(monkeypatch, "results")
    assert publish(monkeypatch, "results") == first
    assert readme.replaced(first, readme.section(Path("docs/results"))) == first

    path = Path("docs/results/ablation.csv")
    path.write_text(path.read_text().replace("simple_nn,0,digits,0.6,0.58", "simple_nn,0,digits,0.6,0.5"))
    assert readme.replaced(first, readme.section(Path("docs/results"))) != first


def test_the_figure_names_the_table_it_was_drawn_from(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = publish(monkeypatch, "results")

    assert "](docs/results/forest.png)" in text
    assert_drawn_from_its_table(Path("docs/results"))
    with Image.open("docs/results/forest.png") as drawn:
        assert drawn.convert("RGB").getcolors(10) is None, "it has no more than 10 colours"


def assert_drawn_from_its_table(folder: Path) -> None:
    with Image.open(folder / readme.FIGURE) as picture:
        assert picture.text[readme.SOURCE] == hashlib.sha256((folder / "comparisons.csv").read_bytes()).hexdigest()


def test_where_nothing_of_the_plot_was_run_there_is_no_figure(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "results")
    table = pd.read_csv("results/comparisons.csv")
    table.assign(verdict="not run", answer="not run").to_csv("results/comparisons.csv", index=False)

    text = publish(monkeypatch, "results")
    assert "forest.png" not in text and not Path("docs/results/forest.png").exists()
    assert "### What each change does" not in text  # nor a table without columns


def test_a_commit_and_its_changed_settings_become_a_command(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("results/provenance.json").write_text(
        '{"commit": "1234567", "date": "2024-05-06 07:08:09 +0000", "uncommitted": ["src"],'
        ' "changed": [{"name": "seeds", "default": [0], "value": [0, 1]}]}'
    )

    text = publish(monkeypatch, "results")

    assert "Aggregated with the code of 2024-05-06, 1234567, with uncommitted changes in src. The settings:\n" in text
    assert "\n```console\ndvc exp run -S 'seeds=[0,1]'\n```\n" in text


def test_official_data_have_no_warning(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.read_csv("results/ablation.csv")
    table.assign(data="cifar10").to_csv("results/ablation.csv", index=False)

    assert "**official CIFAR-10**" in publish(monkeypatch, "results")
    assert "not official" not in readme.section(Path("docs/results"))


def test_comparisons_come_back_from_their_table(workspace: Path, compared: Comparisons) -> None:
    assert readme.read_comparisons(Path("results/comparisons.csv")) == compared.rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: python -m ablation.publishing.readme RESULTS, the folder that dvc repro writes"),
        (
            ["nowhere"],
            "nowhere/ablation.csv: no such file; run it in the project's root after dvc repro, or give make readme",
        ),
    ],
)
def test_arguments(workspace: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        publish(monkeypatch, *arguments)
    assert Path("README.md").read_text() == TEXT and not Path("docs").exists()


@pytest.mark.parametrize("marker", ["<!-- results -->", "<!-- end of results -->"])
def test_a_readme_without_markers_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch, marker: str) -> None:
    Path("README.md").write_text(TEXT.replace(marker, ""))

    with pytest.raises(ValueError, match=r"^README\.md: the results go between the lines <!-- results --> and "):
        publish(monkeypatch, "results")
    assert not Path("docs").exists()


@pytest.mark.skipif(not (ROOT / "docs/results").exists(), reason="no study's results were published yet: make readme")
def test_the_projects_readme_says_what_its_tables_say() -> None:
    folder, text = ROOT / "docs/results", (ROOT / "README.md").read_text(encoding="utf-8")

    assert readme.replaced(text, readme.section(folder)) == text, "the README drifted from docs/results: make readme"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*readme.COPIED, readme.FIGURE])
    assert_drawn_from_its_table(folder)


def test_other_data_have_a_warning(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\n> **These are digits, not official CIFAR-10." in publish(monkeypatch, "results")


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert readme._markdown(pd.DataFrame({"a": ["|x - y|"]})).splitlines()[-1] == "| \\|x - y\\| |"


def test_the_label_of_the_data_may_look_like_a_number(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.read_csv("results/ablation.csv")
    table.assign(data="1.10").to_csv("results/ablation.csv", index=False)
    labels, forest = [], readme.forest.forest
    monkeypatch.setattr(readme.forest, "forest", lambda *rest: (labels.append(rest[2]), forest(*rest))[1])

    assert "**1.10, not official CIFAR-10**" in publish(monkeypatch, "results")
    assert labels == ["1.10"]


def test_the_time_is_of_all_runs_in_minutes(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "; 1 minutes of training, summed over 12 runs." in publish(monkeypatch, "results")  # 66 s


@pytest.mark.parametrize("name", ["NA", "nan", "1e-2"])
def test_a_variant_may_be_called_as_no_number_is(name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.read_csv("results/ablation.csv")
    table.assign(variant=name, seed=range(len(table))).to_csv("results/ablation.csv", index=False)
    text = publish(monkeypatch, "results")
    assert [row[0] for row in rows(text, "Accuracy, best validation accuracy first")[2:]] == [f"`{name}`"]
