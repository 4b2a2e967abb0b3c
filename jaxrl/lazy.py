"""Public names that are imported when they are first used, each written once.

A package's `__init__.py` lists them as imports under `if TYPE_CHECKING:`, where type checkers read them, and ends with

    __getattr__, __dir__, __all__ = lazy.exports(__name__, __file__)

So `import jaxrl` costs nothing and does not start JAX.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def exports(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package from the imports under its `if TYPE_CHECKING:`."""
    homes = _homes(Path(file).read_text(encoding="utf-8"))

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, original = homes[name]
        return getattr(importlib.import_module(module), original)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names, sorted(homes)


def _homes(source: str) -> dict[str, tuple[str, str]]:
    """Public name -> (module, name there)."""
    homes: dict[str, tuple[str, str]] = {}
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            for line in block.body:
                if isinstance(line, ast.ImportFrom) and line.module:
                    homes |= {alias.asname: (line.module, alias.name) for alias in line.names if alias.asname}
    return homes
