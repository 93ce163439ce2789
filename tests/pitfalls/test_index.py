"""The table in ``__init__`` names what is there, and what is there says which row it belongs to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pitfalls

ROOT = Path(__file__).parents[2]


def rows() -> dict[int, list[str]]:
    """The tests of each row of the table."""
    found: dict[int, list[str]] = {}
    number = 0
    for line in (pitfalls.__doc__ or "").splitlines():
        if row := re.match(r"(\d+) ", line):
            number = int(row[1])
            found[number] = []
        elif test := re.match(r"    - (tests/\S+::\w+)$", line):
            found[number].append(test[1])
    return found


def functions_in(path: Path) -> dict[str, str]:
    """The test functions of a file, with their docstrings."""
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_row_names_tests_that_exist() -> None:
    """From 1 to 20."""
    table = rows()
    assert table.keys() == set(range(1, 21))
    for number, names in table.items():
        assert names, number
        for name in names:
            path, _, function = name.partition("::")
            assert function in functions_in(ROOT / path), f"row {number}: {name} does not exist"


def test_every_test_here_names_its_row() -> None:
    """In its docstring, and the table names it there."""
    table = rows()
    here = Path(__file__).parent
    for path in here.glob("test_*.py"):
        if path.name == "test_index.py":
            continue
        for function, docstring in functions_in(path).items():
            number = re.match(r"Row (\d+): ", docstring)
            assert number is not None, f"{path.name}::{function}"
            assert f"tests/pitfalls/{path.name}::{function}" in table[int(number[1])]
