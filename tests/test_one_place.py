"""A rule stands in one place: so does the sentence that tells a user of it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.support.paths import ROOT

ROOMS = ("app", "worker", "ms_jobs", "ms_core", "ms_lab")
# Shorter texts are names, or parts of sentences that happen to agree.
LEAST_CHARACTERS = 30


def test_no_sentence_is_written_twice() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for text in sentences(ast.parse(path.read_text(encoding="utf-8"))):
            places[text].add(str(path.relative_to(ROOT)))
    twice = {text: sorted(files) for text, files in places.items() if len(files) > 1}
    assert twice == {}


def sentences(tree: ast.Module) -> Iterator[str]:
    """The string literals of a module that are long enough, but for docstrings and descriptions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    statements = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    skipped = {id(statement.value) for statement in statements if isinstance(statement, ast.Expr)}
    # Fields of the API that mean the same are described by the same words.
    skipped |= {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "description"
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
        if is_text and len(node.value) >= LEAST_CHARACTERS:
            yield node.value
