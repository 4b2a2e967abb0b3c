"""Options of commands and their help: a box of the run's options, a box of the agent's config."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxrl.fields import default_of, kind_of, name_of, to_text

_TYPES = {int: "INT", float: "FLOAT", str: "TEXT"}
_MARKS = "static: another value is another program to compile; traced: values may be swept in one program"


class Option(NamedTuple):
    """A declared field as an option.

    Attributes:
      owner: the dataclass that it is a field of.
      declared: its type.
    """

    owner: type
    field: dataclasses.Field
    declared: Any

    @property
    def positional(self) -> bool:
        return self.field.metadata.get("positional", False)

    @property
    def takes_many(self) -> bool:
        """Whether it has any number of values, as a tuple and a dict have."""
        _, base, is_tuple = kind_of(self.declared)
        return is_tuple or base is dict

    @property
    def accumulates(self) -> bool:
        """Whether the values of a repeated option come together; of others the last one counts."""
        return self.takes_many and kind_of(self.declared)[1] in (str, dict)


def show_help(program: str, options: Sequence[Option], config_class: type | None) -> None:
    """Prints what each option means, and exits."""
    from rich.console import Console

    out = Console(highlight=False, markup=False, emoji=False)
    required = [option for option in options if default_of(option.field) is ...]
    places = [option for option in options if option.positional and option not in required]
    usage = [_written(option) for option in sorted(required, key=lambda option: option.positional)]
    usage += [f"[{_written(option)}]" for option in places]
    out.print("usage:", program, *usage, "[options]\n", soft_wrap=True)
    own = [option for option in options if option.owner is not config_class]
    title = {"train": "the run", "sweep": "the sweep", "tune": "the search"}.get(program.split()[1], "options")
    first = [*required, *places]
    out.print(_box(title, [*first, *(option for option in own if option not in first)], False))
    if config_class is not None:
        out.print(_box("the agent's config", [option for option in options if option.owner is config_class], True))
        out.print(_MARKS)
    sys.exit(0)


def _box(title: str, options: Sequence[Option], marked: bool) -> Any:
    from rich import box
    from rich.panel import Panel
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(max_width=30)
    table.add_column()
    for option in options:
        table.add_row(_written(option), _meaning(option, marked))
    return Panel(table, title=title, title_align="left", box=box.ROUNDED)


def _written(option: Option) -> str:
    """How an option is written."""
    field, (_, base, _) = option.field, kind_of(option.declared)
    flag = "--" + name_of(field).replace("_", "-")
    if base is bool:
        return f"--[no-]{flag[2:]}"
    value = "NAME=VALUE" if base is dict else field.metadata.get("metavar") or _TYPES.get(base, "TEXT")
    if option.positional:
        value = field.metadata.get("metavar") or name_of(field).upper()
    many = f"{value} [{value} ...]" if option.takes_many else value
    return many if option.positional else f"{flag} {many}"


def _meaning(option: Option, marked: bool) -> str:
    meta, default = option.field.metadata, default_of(option.field)
    words = [meta.get("help", "")]
    if any(str(choice) not in words[0] for choice in meta.get("choices", ())):
        words.append(f"One of {', '.join(map(str, meta['choices']))}.")
    if marked:
        words.append("[static]" if meta.get("static", True) else "[traced]")
    if default is ...:
        words.append("(required)")
    elif default not in ((), {}) and (default is not None or marked):
        shown = " ".join(map(to_text, default)) if isinstance(default, tuple) else to_text(default)
        words.append(f"(default: {shown})")
    return " ".join(words)
