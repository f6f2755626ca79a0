"""Settings read from files; what params.yaml may hold is in tests/configuration."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest
from pydantic import Field

from ablation.common.errors import InvalidInput
from ablation.common.settings import Settings, nearest, parse_yaml, read_yaml, write_yaml


class Circle(Settings):
    name: Literal["circle"]
    radius: Annotated[float, Field(gt=0)]


class Square(Settings):
    name: Literal["square"]
    side: float


class Drawing(Settings):
    shapes: list[Annotated[Circle | Square, Field(discriminator="name")]]
    titles: dict[str, str]


CIRCLE = {"name": "circle", "radius": 1.0}


def problem(**changes) -> str:
    with pytest.raises(InvalidInput) as raised:
        Drawing.parse({"shapes": [CIRCLE], "titles": {}} | changes, "a.yaml", under="drawing")
    return str(raised.value)


def test_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("shapes: [{name: circle, radius: 1e-1}]\ntitles: {}\n")
    drawing = Drawing.read(path)
    assert drawing == Drawing(shapes=[Circle(name="circle", radius=0.1)], titles={})
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        drawing.titles = {}


def test_read_names_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(InvalidInput) as raised:
        Drawing.read(path)
    assert str(raised.value) == f"{path}: no such file"
    path.write_text("titles: {}\n")
    with pytest.raises(InvalidInput) as raised:
        Drawing.read(path)
    assert str(raised.value) == f"{path}: shapes: missing; every key must be given"


def test_path_leads_through_lists_unions_and_mappings():
    """Keys named like a union's tag or another class's field do not distort the path."""
    square = {"name": "square", "side": 1.0}
    assert problem(shapes=[CIRCLE, CIRCLE | {"radius": 0}]) == (
        "a.yaml: drawing.shapes.1.radius: 0 must be greater than 0"
    )
    assert problem(shapes=[square | {"square": {"side": 1}}]) == (
        "a.yaml: drawing.shapes.0.square: unknown key, set to {'side': 1}; known: name, side"
    )
    assert problem(shapes=[{"name": "square", "square": 3}]).splitlines() == [
        "a.yaml: drawing.shapes.0.side: missing; every key must be given",
        "       a.yaml: drawing.shapes.0.square: unknown key, set to 3; known: name, side",
    ]
    assert problem(titles={"shapes": 3}) == "a.yaml: drawing.titles.shapes: 3 must be a string"


def test_nearest():
    assert nearest("lrr", ["model", "lr"]) == "did you mean lr? known: model, lr"
    assert nearest("optimiser", ["model", "lr"]) == "known: model, lr"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("day: 2024-02-30", "day is out of range for month"),
        ("number: 0x_", "invalid literal for int() with base 16: ''"),
        ("- " * 5000, "maximum recursion depth exceeded"),
    ],
)
def test_yaml_on_which_its_parser_gives_up_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_yaml(text, "a.yaml")
    assert str(raised.value).startswith(f"a.yaml: not valid YAML: {problem}") and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["1e-2", "1E5", "-1.e+3", "0.01", "12", "null", "no", "2024-01-01", "a: b", "~"])
def test_text_that_looks_like_something_else_is_read_back_as_text(text: str, tmp_path: Path) -> None:
    value = {text: [text, 0.01, 1e-5, 1e22, 5, None, True]}
    write_yaml(tmp_path / "a.yaml", value)
    assert read_yaml(tmp_path / "a.yaml") == value


def test_a_missing_file_of_configs_names_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"^configs/a\.yaml: no such file; the stage configure writes it$"):
        read_yaml("configs/a.yaml")
