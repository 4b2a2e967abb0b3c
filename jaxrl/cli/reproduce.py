"""`jaxrl reproduce`: published results as commands."""

from __future__ import annotations

import dataclasses
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxrl.claims import FAMILIES, all_claims, select, title_of
from jaxrl.claims.claim import Claim, Table, run_name
from jaxrl.cli import options as opts
from jaxrl.errors import UsageError
from jaxrl.fields import static
from jaxrl.interrupts import EXIT_CODE
from jaxrl.startup import command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReproduceOptions(opts.Threads):
    """Options of `jaxrl reproduce`."""

    names: tuple[str, ...] = static(
        (),
        f"Claims, groups of them ({', '.join(FAMILIES)}), or your own as FILE.py:NAME or module:NAME.",
        metavar="NAME",
        positional=True,
    )
    seeds: int | None = static(None, "How many of a claim's seeds; all of them by default.", low=1, high=10_000)
    quick: bool = static(False, "A small version, of two seeds and a twentieth of the env steps: no verdict.")
    out: str = static("reproduced", "Folder of the results; the runs are in its folder runs/.")
    executor: str = static("local", "local, or ray: tasks on a Ray cluster.", choices=("local", "ray"))
    list: bool = static(False, "Show the claims, all or those named, and end.")
    table: bool = static(False, "Write README.md and claims.csv from the results in --out and end.")


def reproduce(arguments: list[str]) -> None:
    """jaxrl reproduce [NAME|GROUP ...] [--seeds N] [--quick] [--out DIR] [--executor ray] [--list] [--table]"""
    options = opts.parse(ReproduceOptions, arguments, "jaxrl reproduce")
    claims = select(options.names) if options.names else all_claims()
    out = opts.path_of("out", options.out)
    if options.list:
        _show(list(claims.values()))
        opts.say_next("run claims or groups of them", "reproduce", *(options.names or list(claims)[:1]))
    elif options.table:
        from jaxrl.claims.table import write_table

        print(write_table(out))
    elif not options.names:
        raise UsageError(
            "names is missing; name claims or groups, such as jaxrl reproduce tables; jaxrl reproduce --list shows all"
        )
    else:
        _run(claims, out, options, arguments)


def _show(claims: Sequence[Claim | Table]) -> None:
    """A line for each claim, below its group."""
    lines = {claim.name: _line(claim) for claim in claims}
    head = ("claim", "published", "env steps", "score", "minutes", "source")
    widths = [max(map(len, column)) for column in zip(head, *lines.values(), strict=True)]
    for group in dict.fromkeys(claim.group for claim in claims):
        print(f"{group}: {title_of(group)}" if group in FAMILIES else group or "your own")
        of_group = (lines[claim.name] for claim in claims if claim.group == group)
        for cells in (head, *of_group):
            aligns = (str.ljust, str.rjust, str.rjust, str.ljust, str.rjust, str.ljust)
            aligned = (align(cell, width) for align, cell, width in zip(aligns, cells, widths, strict=True))
            print(f"  {'  '.join(aligned).rstrip()}")


def _line(claim: Claim | Table) -> tuple[str, ...]:
    minutes = "" if claim.minutes is None else f"{claim.minutes:g}"
    if isinstance(claim, Table):
        return claim.name, f"{len(claim.values)} values", "", "exact", minutes, claim.source
    published = claim.published
    deviation = "" if published.deviation is None else f" ± {published.deviation:,g}"
    steps = f"{published.env_steps:,}"
    return claim.name, f"{published.mean:,g}{deviation}", steps, published.protocol.score, minutes, published.source


def _run(claims: Mapping[str, Claim | Table], out: Path, options: ReproduceOptions, arguments: list[str]) -> None:
    """Runs claims one after another; of several, one that fails is passed over."""
    from jaxrl.cli.sweeps import use_all_cores

    use_all_cores(arguments)
    results, failed, again = [], [], command("reproduce", *arguments)
    for name, claim in claims.items():

        def job(name: str = name, claim: Claim | Table = claim) -> dict[str, Any]:
            from jaxrl.claims.reproduce import reproduce as run
            from jaxrl.claims.reproduce import reproduce_table

            if isinstance(claim, Table):
                return reproduce_table(claim, out, name)
            return run(claim, out, options.seeds, options.quick, options.executor, name)

        try:
            folder = out / "runs" / run_name(claim, options.seeds, options.quick)
            results.append(opts.guarded(job, folder, again))
        except SystemExit as stop:  # It is told already.
            if len(claims) == 1 or stop.code == EXIT_CODE:
                raise
            failed.append(name)
        except Exception as error:
            if len(claims) == 1:
                raise
            print(f"jaxrl: {name} failed:", file=sys.stderr)
            if not isinstance(error, UsageError) and not opts.is_reported(error):
                traceback.print_exception(error)
            opts.say_failure(error)
            failed.append(name)
    if results:
        _finish(results, out)
    if failed:
        print(f"jaxrl: {len(failed)} of {len(claims)} claims failed: {', '.join(failed)}; go on with: {again}", file=sys.stderr)
        sys.exit(1)


def _finish(results: Sequence[dict[str, Any]], out: Path) -> None:
    from rich.table import Table as Shown

    from jaxrl.claims.table import row_of
    from jaxrl.records.console import console

    table = Shown(title="published results and ours")
    shown = ("claim", "verdict", "ours", "95 % interval", "published")
    for column in shown:
        table.add_column(column)
    for result in results:
        row = row_of(result)
        table.add_row(*(row[column] for column in shown))
    console().print(table)
    for result in results:
        for reason in result["reasons"]:
            print(f"{result['claim']['name']}: {reason}", file=sys.stderr)
        print(result["claim"]["name"], result["verdict"])
    opts.say_next("a table of all results there", "reproduce", "--table", "--out", out)
