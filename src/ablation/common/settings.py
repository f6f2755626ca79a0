"""Strict reading of YAML settings: every key stated, none unknown, each value of the right type and range."""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin

import pydantic
import yaml
from pydantic_core import PydanticCustomError

from ablation.common.errors import InvalidInput
from ablation.common.files import write_text

TYPES = {  # type of a pydantic error -> what is expected instead
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "a string",
}
MISSING = "missing; every key must be given"


class Settings(pydantic.BaseModel):
    """Base of every params class: frozen, no implicit conversion, no unknown key. Subclasses hold no defaults."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Settings from the YAML file at `path`. Raises InvalidInput naming file, key, value and what is allowed."""
        return cls.parse(read_yaml(path), str(path))

    @classmethod
    def parse(cls, values: Any, source: str, under: str = "") -> Self:
        """Settings from plain values. InvalidInput names `source` and the key path, prefixed with `under`."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            lines = [
                ": ".join(filter(None, (source, ".".join(filter(None, (under, *path))), text)))
                for path, text in _problems(cls, error).items()
            ]
            raise InvalidInput("\n       ".join(lines)) from None


def matching(pattern: str, allowed: str) -> pydantic.AfterValidator:
    """Text that the regular expression `pattern` matches as a whole; `allowed` says so in words."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise PydanticCustomError("pattern", "must be {allowed}", {"allowed": allowed})
        return text

    return pydantic.AfterValidator(check)


def read_yaml(path: Path | str) -> Any:
    """Plain values of the YAML file at `path`. Raises InvalidInput where it is missing or not YAML."""
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        hint = "; the stage configure writes it" if Path(path).parts[0] == "configs" else ""
        raise InvalidInput(f"{path}: no such file{hint}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not UTF-8 text") from None


def parse_yaml(text: str, source: str) -> Any:
    """Plain values of the YAML `text`. Raises InvalidInput, naming `source` and the line, where it is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = ": ".join(filter(None, (error.context, error.problem)))
        raise InvalidInput(f"{source}{line}: not valid YAML: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as 2024-02-30; nested too deeply
        raise InvalidInput(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def write_yaml(path: Path, value: Any) -> None:
    """Write plain values, so that `read_yaml` reads the same."""
    write_text(path, yaml.dump(value, Dumper=_Dumper, sort_keys=False))


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say about an unknown `name`: the nearest known one, and all known ones."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(known)}"


class _Loader(yaml.SafeLoader):
    """Follows YAML 1.2 where it matters to settings: `1e-4` is a number, and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = []
        for key_node, _ in node.value:
            if key_node.tag != "tag:yaml.org,2002:merge":  # explicit keys override those of `<<: *anchor`
                key = self.construct_object(key_node, deep=True)
                if key in keys:
                    problem = f"the key {key} is repeated"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                keys.append(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would take for a number."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def _problems(cls: type[Settings], error: pydantic.ValidationError) -> dict[tuple[str, ...], str]:
    """Key path -> the value there and what is allowed: one line for each value that has to be changed."""
    problems: dict[tuple[str, ...], str] = {}
    for detail in error.errors():
        path, text = _problem(cls, detail)
        # A union of plain types has one error for each of them.
        problems[path] = f"{problems[path]} or {text.split(' must be ')[-1]}" if path in problems else text
    misspelt = {
        (*path[:-1], match[1]) for path, text in problems.items() if (match := re.search(r"did you mean (\S+)\?", text))
    }
    return {path: text for path, text in problems.items() if text != MISSING or path not in misspelt}


def _problem(cls: type[Settings], detail: Any) -> tuple[tuple[str, ...], str]:
    """The key path of one pydantic error, and the value there with what is allowed."""
    path, kind = _walk(cls, detail["loc"])
    value, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return path, MISSING
        case "extra_forbidden" | "invalid_key":
            owner = _walk(cls, detail["loc"][:-1])[1]
            what = "unknown key" if detail["type"] == "invalid_key" else f"unknown key, set to {_shown(value)}"
            return path, f"{what}; {nearest(path[-1], owner.model_fields)}"
        case "union_tag_not_found":
            return (*path, "name"), MISSING
        case "union_tag_invalid":
            return (*path, "name"), f"{_shown(value['name'])} must be one of {context['expected_tags']}"
        case "value_error":  # of several keys of a mapping; the message names them with their values
            return path, str(context["error"])
    if detail["type"] in TYPES:
        allowed = f"must be {TYPES[detail['type']]}"
        if _is_settings(kind):
            allowed += f" with the keys {', '.join(kind.model_fields)}"
    else:
        allowed = re.sub(r"^\w+ should ", "must ", detail["msg"]).partition(" after validation")[0]
    if detail["loc"][-1:] == ("[key]",):
        return path[:-1], f"the name {_shown(value)} {allowed}"
    return path, f"{_shown(value)} {allowed}"


def _walk(cls: type[Settings], location: tuple[int | str, ...]) -> tuple[tuple[str, ...], Any]:
    """The key path of a pydantic error location, which also contains union tags, and the type at that path."""
    path: list[str] = []
    kind: Any = cls
    for key in location:
        while get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        if _is_settings(kind):
            path.append(str(key))
            kind = kind.model_fields[key].annotation if key in kind.model_fields else None
        elif get_origin(kind) not in (dict, list):  # the key is the tag of a member of a union
            members = [member for member in get_args(kind) if _is_settings(member)]
            kind = next((m for m in members if get_args(m.model_fields["name"].annotation) == (key,)), None)
        elif key != "[key]":
            path.append(str(key))
            kind = get_args(kind)[-1]
    return tuple(path), kind


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _shown(value: Any) -> str:
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
