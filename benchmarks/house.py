"""How large the code is and in how many pieces: `python -m benchmarks.house [TREE]`.

Modules and lines of ttrl, jobs and serve; the share of modules with exactly one importer
(`__init__` and the commands apart); private functions used exactly once, as a share of all
functions; comment lines per 100. Prints one line of JSON. TREE is another checkout to compare with.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

PACKAGES = ("ttrl", "jobs", "serve")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house")
    parser.add_argument("tree", nargs="?", type=Path, default=Path())
    print(json.dumps(measure(parser.parse_args().tree)))


def measure(tree: Path) -> dict[str, float]:
    """Count over all modules of a checkout."""
    files = [file for package in PACKAGES for file in sorted((tree / package).rglob("*.py"))]
    sources = {_module(tree, file): file.read_text() for file in files}
    parsed = {name: ast.parse(source) for name, source in sources.items()}
    importers = Counter(
        imported for name, code in parsed.items() for imported in _imports(name, code, sources)
    )
    pieces = [name for file, name in zip(files, sources, strict=True) if file.name[:2] != "__"]
    single = [name for name in pieces if importers[name] == 1 and not _command(name, sources[name])]
    functions = [node for code in parsed.values() for node in _functions(code)]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    comments = sum(_comments(source) for source in sources.values())
    lines = sum(len(source.splitlines()) for source in sources.values())
    return {
        "modules": len(sources),
        "lines": lines,
        "one_importer": round(len(single) / len(pieces), 3),
        "functions": len(functions),
        "function_median": median(lengths),
        "function_p90": quantiles(lengths, n=10)[-1],
        "private_used_once": round(
            sum(_used_once(code) for code in parsed.values()) / len(functions), 3
        ),
        "comments_per_100": round(100 * comments / lines, 1),
    }


def _command(name: str, source: str) -> bool:
    """Whether the command line or a process of its own starts there."""
    return name.startswith("serve.cli.") or '__name__ == "__main__"' in source


def _module(tree: Path, file: Path) -> str:
    parts = file.relative_to(tree).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, code: ast.AST, known: dict[str, str]) -> set[str]:
    """The modules among those known that this one imports."""
    found = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & known.keys()
            found |= inner or {node.module}
    return (found & known.keys()) - {name}


def _functions(code: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(code):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _used_once(code: ast.AST) -> int:
    """Private functions and methods that their module names exactly once."""
    private = {
        node.name
        for node in _functions(code)
        if node.name.startswith("_") and not node.name.startswith("__")
    }
    uses = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(code)
        if isinstance(node, ast.Name | ast.Attribute)
    )
    return sum(uses[name] == 1 for name in private)


def _comments(source: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})


if __name__ == "__main__":
    main()
