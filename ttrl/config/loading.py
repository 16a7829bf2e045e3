"""Read the configuration: recipe < YAML file < environment (`TTRL_...`) < credentials < command
line. And what can be set, in words: from the docstrings and types of the configuration.

Not pydantic-settings: it neither tells which layer a value came from nor refuses a misspelt
environment variable.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ttrl import ReportedError
from ttrl.config import Config, Section
from ttrl.config.serving import parse, shown

ENV_PREFIX = "TTRL_"
ENV_SEPARATOR = "__"
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""The variable that names a directory of secrets: systemd sets it for what `LoadCredential=` loads,
and a container can be given it for those that are mounted there."""
SECRETS = (("admin", "key"), ("engine", "api_key"), ("judge", "api_key"), ("webhook", "secret"))
"""Settings that are never shown."""
SECTIONS = {
    name: type(field.default)
    for name, field in Config.model_fields.items()
    if isinstance(field.default, Section)
}
RECIPES = Path(__file__).with_name("recipes")


class ConfigError(ReportedError, ValueError):
    """The configuration says something that cannot be: each line names the setting, what is wrong
    with it and where it was set."""


class Source(StrEnum):
    """Where a value came from; a later one wins."""

    DEFAULT = "default"
    RECIPE = "recipe"
    FILE = "file"
    ENVIRONMENT = "environment"
    CREDENTIALS = "credentials"
    COMMAND_LINE = "command line"
    DAEMON = "daemon"


@dataclass(frozen=True)
class Resolved:
    """A configuration and the source of each of its values, by dotted path."""

    config: Config
    sources: Mapping[str, Source]

    @classmethod
    def running(cls, config: Config) -> Resolved:
        """Return a daemon's configuration, which does not say where its values are from."""
        usual = {path: value for path, value, _ in cls(Config(), {}).rows()}
        changed = (path for path, value, _ in cls(config, {}).rows() if value != usual[path])
        return cls(config, dict.fromkeys(changed, Source.DAEMON))

    def given(self, source: Source) -> dict[str, Any]:
        """Return what a layer decided: dotted path and value, as JSON has it."""
        dumped = dict(_leaves(self.config.model_dump(mode="json")))
        return {path: dumped[path] for path, found in self.sources.items() if found is source}

    def rows(self) -> Iterator[tuple[str, Any, Source]]:
        """Yield every setting: dotted path, value as JSON has it, source."""
        dumped = self.config.model_dump(mode="json")
        for section, secret in SECRETS:
            if dumped[section][secret]:
                dumped[section][secret] = "***"
        if url := self.config.store.url:
            dumped["store"]["url"] = shown(parse(url))
        for path, value in _leaves(dumped):
            yield path, value, self.sources.get(path, Source.DEFAULT)


def load(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Resolved:
    """Read and check the whole tree. `overrides` has dotted paths. Raises ConfigError."""
    layers = {
        Source.FILE: _read_file(file) if file else {},
        Source.ENVIRONMENT: _variables(environ, lambda name: scalar(environ[name])),
        Source.CREDENTIALS: _read_credentials(environ.get(CREDENTIALS)),
        Source.COMMAND_LINE: _nest(overrides or {}),
    }
    if named := [layer["recipe"] for layer in layers.values() if layer.get("recipe")]:
        name, known = str(named[-1]), recipes()
        if name not in known:
            raise ConfigError(f"recipe: unknown recipe {name!r}; known: {', '.join(known)}")
        layers = {Source.RECIPE: _read_file(known[name]), **layers}
    merged: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for source, layer in layers.items():
        _merge(merged, layer)
        sources |= {path: source for path, _ in _leaves(layer)}
    return Resolved(_checked(merged, sources, file), sources)


def _checked(
    tree: dict[str, Any], sources: Mapping[str, Source], file: Path | None = None
) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, sources, file)) from None


def recipes() -> dict[str, Path]:
    return {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}


def _read_file(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(tree or {}, dict):
        raise ConfigError(f"{file} has no settings: it must be a mapping such as `model: ...`")
    # A section whose settings are all comments is null.
    return {
        name: {} if value is None and name in SECTIONS else value
        for name, value in (tree or {}).items()
    }


def _read_credentials(directory: str | None) -> dict[str, Any]:
    """A file called as its variable would be, such as TTRL_ADMIN__KEY, holds a value; it is text to
    the letter, but for the ends of lines behind it. Files of other names are somebody else's."""
    if directory is None:
        return {}

    def read(name: str) -> str:
        try:
            return Path(directory, name).read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise ConfigError(f"the credential {directory}/{name} is not UTF-8 text") from None

    try:
        return _variables(os.listdir(directory), read)
    except OSError as error:
        raise ConfigError(
            f"cannot read the credentials in {directory} ({CREDENTIALS}): {error.strerror}"
        ) from None


def _variables(names: Iterable[str], read: Callable[[str], Any]) -> dict[str, Any]:
    """Read what has a setting's name: `TTRL_GATEWAY__PORT` is gateway.port."""
    return _nest(
        {
            name.removeprefix(ENV_PREFIX).lower().replace(ENV_SEPARATOR, "."): read(name)
            for name in sorted(names)
            if name.startswith(ENV_PREFIX)
        }
    )


def scalar(text: str) -> Any:
    """Return a value written as in the file; what is not YAML is text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in dotted.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of each setting in a tree, which may name some that do not
    exist."""
    for key, value in tree.items():
        if key in SECTIONS and isinstance(value, Mapping):
            yield from ((f"{key}.{name}", setting) for name, setting in value.items())
        else:
            yield str(key), value  # a file may have a number for a name


def known_paths() -> list[str]:
    return [path for path, _ in _leaves(Config().model_dump())]


def _explain(error: ValidationError, sources: Mapping[str, Source], file: Path | None) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        source = next(
            (s for p, s in sources.items() if path.startswith(p) or p.startswith(path)), None
        )
        where = {Source.FILE: f" (in {file})", None: ""}.get(source, f" (from the {source})")
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown setting" + suggestion(path)
        if problem["type"] == "tuple_type":
            message = "must be a list such as [a, b]"
        lines.append(f"{path or 'configuration'}: {message}{where}")
    return "\n".join(lines)


def suggestion(path: str) -> str:
    near = difflib.get_close_matches(path, [*known_paths(), *Config.model_fields], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def override(config: Config, dotted: Mapping[str, Any]) -> Config:
    """The same configuration with other values for some dotted paths. Raises ConfigError."""
    tree = config.model_dump()
    _merge(tree, _nest(dotted))
    return _checked(tree, dict.fromkeys(dotted, Source.COMMAND_LINE))


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
            if prefix or name not in SECTIONS
        ]

    yield "", "", those_of(Config, "", defaults)
    for name, section in SECTIONS.items():
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
