"""Commands that are imported once they are run: ``refbus --help`` costs no broker's client, and ``refbus token`` no demo.

What the help says of a command stands in its source, and is read there without running it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def group_of(points: Iterable[EntryPoint]) -> type[TyperGroup]:
    """A group of the commands at these places, each a function typer can call or a ``typer.Typer`` with more commands."""

    class Commands(TyperGroup):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            for point in points:
                self.add_command(Later(point))

    return Commands


class Later(TyperCommand):
    """Stands for the command at a place until it is run."""

    def __init__(self, point: EntryPoint) -> None:
        super().__init__(point.name)
        self._point = point

    @property
    def help(self) -> str | None:
        """Read only when it is shown: no command reads the sources of the others."""
        return _help(self._point)

    @help.setter
    def help(self, _: str | None) -> None:
        """What the point says counts."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **more: Any) -> Any:
        """The context of the command itself, which runs in the place of this one."""
        found = self._point.load()
        if not isinstance(found, typer.Typer):
            function, found = found, typer.Typer(add_completion=False)
            found.command(self.name)(function)
        return typer.main.get_command(found).make_context(info_name, args, parent, **more)


@cache
def _help(point: EntryPoint) -> str | None:
    """A function's docstring, or the ``help`` a ``typer.Typer`` is made with. Raises ImportError where there is no such module."""
    spec = find_spec(point.module)
    source = None if spec is None else getattr(spec.loader, "get_source", lambda _: None)(point.module)
    if source is None:
        raise ImportError(f"the command {point.name} is missing: there is no {point.module}; install it anew")
    for node in ast.parse(source).body:
        match node:
            case ast.FunctionDef(name=point.attr):
                return ast.get_docstring(node)
            case ast.Assign(targets=[ast.Name(id=point.attr)], value=ast.Call(keywords=keywords)):
                return next((ast.literal_eval(one.value) for one in keywords if one.arg == "help"), None)
    return None
