"""YAML and JSON, within limits: what is nested or repeated without end is refused in one line."""

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from xclipt.files import read_regular

MAX_BYTES = 64 * 2**20
"""The largest document: a manifest names every picture, and some tokenizers are of 30 MB."""

MAX_DEPTH = 50
MAX_ALIASES = 10
"""So few that nesting them multiplies a document by less than 40."""


Record = TypeVar("Record")


class _Limited(yaml.SafeLoader):
    depth = aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise ValueError(f"more than {MAX_ALIASES} aliases")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _LimitedText(_Limited):
    """Everything as text: YAML's own ideas would make the language `no` a false."""

    yaml_constructors = yaml.BaseLoader.yaml_constructors
    yaml_implicit_resolvers = yaml.BaseLoader.yaml_implicit_resolvers


_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"


def read_yaml(path: Path, *, as_text: bool = False) -> Any:
    """What a YAML file holds, as plain values.

    Args:
        path: The file.
        as_text: Every value as the text that stands there.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no YAML, or beyond the limits; says what is wrong, in one line.
    """
    text = read_regular(path, MAX_BYTES).decode("utf-8")
    loader = _LimitedText if as_text else _Limited
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (RecursionError, TypeError, AttributeError) as error:  # of values that are no keys
        raise ValueError(f"not YAML ({type(error).__name__})") from None


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or beyond the limits; says what is wrong, in one line.
    """
    return parse_json(read_regular(path, MAX_BYTES))


def parse_json(text: str | bytes) -> Any:
    """What a text of JSON holds.

    Raises:
        ValueError: As :func:`read_json`.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _within(value)]
        if not level:
            return document
    raise ValueError(_TOO_DEEP)


def _within(value: Any) -> list[Any]:
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in held if isinstance(inner, dict | list)]


def record(kind: type[Record], plain: Any, where: str = "") -> Record:
    """A dataclass from a mapping of its fields, whose values must be of the fields' types.

    Lists become tuples, and mappings the dataclasses that a field asks for. Numbers are finite.

    Args:
        kind: The dataclass.
        plain: What stands in the document.
        where: What opens a field's name in messages.

    Raises:
        ValueError: Names the field.
    """
    if not isinstance(plain, Mapping):
        raise ValueError(f"{where.rstrip('.') or 'it'} must be a mapping")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := [str(name) for name in plain if name not in known]:
        raise ValueError(f"unknown entries {', '.join(where + name for name in sorted(unknown))}")
    needed = [n for n, f in known.items() if f.default is f.default_factory is MISSING]
    if missing := [where + name for name in needed if name not in plain]:
        raise ValueError(f"lacks {', '.join(missing)}")
    return kind(**{name: _value(hints[name], plain[name], where + name) for name in plain})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and type(None) in parts:
            return None
        (hint,) = (part for part in parts if part is not type(None))
        return _value(hint, value, where)
    if is_dataclass(hint):
        return record(hint, value, f"{where}.")  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(parts[0], part, where) for part in value)
    if origin is dict and isinstance(value, dict):
        return {
            _value(parts[0], key, where): _value(parts[1], part, f"{where}.{key}")
            for key, part in value.items()
        }
    if hint is Any or _is_a(origin or hint, value):
        return value
    raise ValueError(f"{where} is {_short(value)}, which is no {_NAMES.get(hint, 'value for it')}")


def _is_a(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return kind not in (tuple, dict) and isinstance(value, kind)


_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
