"""What goes wrong, what users notice, and what is kept, as the tests have it:
`python -m docs.reliability` writes docs/reliability.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
HEAD = """# What it survives

Each row is a test that makes it happen, with real processes, files and sockets, and looks at what
is left. `make test` runs them all. Written by `python -m docs.reliability`; do not edit.
"""


@dataclass(frozen=True)
class Row:
    """One fault, and the test that shows it survived."""

    fault: str
    sees: str
    keeps: str
    test: str


def rows(file: Path) -> Iterator[Row]:
    """The tests in a file that are marked with `pytest.mark.fault`."""
    text = file.read_text()
    if "pytest.mark.fault(" not in text:  # parsing all tests takes a second
        return
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                words = {word.arg: ast.literal_eval(word.value) for word in mark.keywords}
                fault = ast.literal_eval(mark.args[0])
                yield Row(fault, words["sees"], words["keeps"], node.name)


def heading(file: Path) -> str:
    """What a file of tests says that it is about."""
    said = ast.get_docstring(ast.parse(file.read_text())) or file.stem
    return " ".join(said.split("\n\n")[0].split()).rstrip(".")


def render(tests: Path) -> str:
    """The whole page."""
    parts = [HEAD]
    for file in sorted(tests.rglob("test_*.py")):
        if not (found := list(rows(file))):
            continue
        parts.append(f"## {heading(file)}\n\n`{file.relative_to(tests.parent)}`\n")
        parts.append(
            "| what goes wrong | what users notice | what is kept | test |\n|---|---|---|---|"
        )
        parts += [f"| {r.fault} | {r.sees} | {r.keeps} | `{r.test}` |" for r in found]
        parts[-1] += "\n"
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(ROOT / "tests"))
