"""What one test leaves to another: that there is such a test, and that it looks at what it is said to hold."""

from __future__ import annotations

import ast
from pathlib import Path


def held(file: Path, test: str, text: str) -> bool:
    """Whether the file has the test, and the test asserts something of this text."""
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.name == test:
            return any(
                isinstance(node, ast.Constant) and node.value == text
                for checked in ast.walk(function)
                if isinstance(checked, ast.Assert)
                for node in ast.walk(checked)
            )
    return False
