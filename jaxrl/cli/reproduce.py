"""`jaxrl reproduce`: published results as commands."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxrl.claims import FAMILIES, all_claims, select
from jaxrl.claims.claim import SCORES, Claim, Table
from jaxrl.cli import options as opts
from jaxrl.errors import UsageError
from jaxrl.fields import static

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReproduceOptions(opts.Threads):
    """Options of `jaxrl reproduce`."""

    names: tuple[str, ...] = static(
        (), f"Claims, groups of them ({', '.join(FAMILIES)}), or your own as FILE.py:NAME or module:NAME.", positional=True
    )
    seeds: int | None = static(None, "How many of a claim's seeds; all of them by default.", low=1)
    quick: bool = static(False, "A small version, of two seeds and a twentieth of the env steps: no verdict.")
    out: str = static("reproduced", "Folder of the results; the runs are in its folder runs/.")
    executor: str = static("local", "local, or ray: tasks on a Ray cluster.", choices=("local", "ray"))
    list: bool = static(False, "Show the claims and end.")
    table: bool = static(False, "Write README.md and claims.csv from the results in --out and end.")


def reproduce(arguments: list[str]) -> None:
    """jaxrl reproduce [NAME|GROUP ...] [--seeds N] [--quick] [--out DIR] [--executor ray] [--list] [--table]"""
    options = opts.parse(ReproduceOptions, arguments, "jaxrl reproduce")
    claims = select(options.names) if options.names else list(all_claims().values())
    out = opts.path_of("out", options.out)
    if options.list:
        _show(claims)
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
    """One line a claim."""
    group = None
    for claim in claims:
        if claim.group != group:
            group = claim.group
            print(group)
        if isinstance(claim, Table):
            what = f"{len(claim.values)} exact values, {claim.source}"
        else:
            published = claim.published
            what = (
                f"{published.mean:g}, {published.env_steps:,} env steps, {SCORES[published.protocol.score]}, {published.source}"
            )
        cost = "" if claim.minutes is None else f", {claim.minutes:g} min"
        print(f"  {claim.name:34s} {what}{cost}")


def _run(claims: Sequence[Claim | Table], out: Path, options: ReproduceOptions, arguments: list[str]) -> None:
    from jaxrl.cli.sweeps import use_all_cores

    use_all_cores(arguments)
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for claim in claims:

        def job(claim: Claim | Table = claim) -> dict[str, Any]:
            from jaxrl.claims.reproduce import reproduce as run
            from jaxrl.claims.reproduce import reproduce_table

            if isinstance(claim, Table):
                return reproduce_table(claim, out)
            return run(claim, out, options.seeds, options.quick, options.executor)

        results.append(opts.guarded(job, out / "runs" / claim.name))
    _finish(results, out)


def _finish(results: Sequence[dict[str, Any]], out: Path) -> None:
    from rich.table import Table as Shown

    from jaxrl.claims.table import COLUMNS, row_of
    from jaxrl.records.console import console

    table = Shown(title="published results and ours")
    shown = ("claim", "verdict", "ours", "95 % interval", "published")
    for column in shown:
        table.add_column(column)
    for result in results:
        table.add_row(*(cell for column, cell in zip(COLUMNS, row_of(result), strict=True) if column in shown))
    console().print(table)
    for result in results:
        for reason in result["reasons"]:
            print(f"{result['claim']['name']}: {reason}", file=sys.stderr)
        print(result["claim"]["name"], result["verdict"])
    opts.say_next("a table of all results there", "reproduce", "--table", "--out", out)
