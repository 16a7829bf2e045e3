"""What can be set, in words: from the docstrings and types of the configuration."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ttrl.config import Config, Section

TYPES = {
    "boolean": "true or false", "string": "text", "object": "mapping", "path": "path",
    "file-path": "path of a file", "duration": 'duration such as "1h30m"',
    "zoneinfo": "time zone such as Europe/Berlin",
}  # fmt: skip
LIMITS = {
    "minimum": "at least", "exclusiveMinimum": "more than",
    "maximum": "at most", "exclusiveMaximum": "less than",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One setting: its dotted path, docstring, type in words, and default as JSON has it."""

    path: str
    text: str
    type: str
    default: Any

    @property
    def variable(self) -> str:
        return f"TTRL_{self.path.upper().replace('.', '__')}"


def settings() -> Iterator[tuple[str, str, list[Setting]]]:
    """Yield each section with its docstring and settings; first the settings without a section, in
    one called ""."""
    schema, defaults = Config.model_json_schema(), Config().model_dump(mode="json")
    sections = {
        name: type(field.default)
        for name, field in Config.model_fields.items()
        if isinstance(field.default, Section)
    }

    def those_of(section: type[Section], prefix: str, values: Mapping[str, Any]) -> list[Setting]:
        types = schema["$defs"][section.__name__] if prefix else schema
        texts = _docstrings(section)
        return [
            Setting(
                f"{prefix}{name}",
                texts.get(name, ""),
                _words(types["properties"][name], schema),
                values[name],
            )
            for name in section.model_fields
            if prefix or name not in sections
        ]

    yield "", "", those_of(Config, "", defaults)
    for name, section in sections.items():
        yield name, inspect.getdoc(section) or "", those_of(section, f"{name}.", defaults[name])


def _docstrings(section: type[Section]) -> dict[str, str]:
    """Return the text below each field, in one line."""
    (defined,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(defined, ast.ClassDef)
    texts = {}
    for field, below in zip(defined.body, defined.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                texts[name] = " ".join(text.split())
    return texts


def _words(type_: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in words."""
    if "$ref" in type_:
        return _words(schema["$defs"][type_["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in type_:
        return " or ".join(dict.fromkeys(_words(each, schema) for each in type_["anyOf"]))
    if "enum" in type_:
        return ", ".join(map(str, type_["enum"]))
    kind: str = type_.get("format", type_["type"])
    if kind == "array":
        return f"list of {_words(type_['items'], schema)}"
    limits = (f", {words} {type_[name]}" for name, words in LIMITS.items() if name in type_)
    return TYPES.get(kind, kind) + "".join(limits)


def template(given: Mapping[str, Any]) -> str:
    """Return a configuration file that explains every setting; those `given`, by dotted path, are
    set, the others are comments with their defaults."""
    lines = ["# Settings of ttrl. Remove the # in front of a name to set it."]
    for section, text, members in settings():
        lines += ["", *_comment(text), f"{section}:"] if section else []
        indent = "  " if section else ""
        for each in members:
            about = f"{each.text} ({each.type})" if each.text else each.type
            lines += ["", *_comment(about, indent)]
            name, value = each.path.rpartition(".")[2], given.get(each.path, each.default)
            mark = "" if each.path in given else "#"
            lines.append(f"{indent}{mark}{name}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, ""])


def _comment(text: str, indent: str = "") -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(" ".join(text.split()), 99, initial_indent=mark, subsequent_indent=mark)
