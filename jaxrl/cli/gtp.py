"""`jaxrl gtp`: a trained policy as a program that plays Go."""

from __future__ import annotations

import contextlib
import dataclasses
import sys

from jaxrl.cli import options as opts
from jaxrl.fields import MAX_SEED, static
from jaxrl.startup import use_compilation_cache, use_threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class GTPOptions(opts.Threads):
    """Options of `jaxrl gtp`."""

    folder: str = static(..., "Folder of a run of Go.", positional=True)
    simulations: int | None = static(
        None, "Positions looked at before a move; as many as in the run's evaluations by default.", low=1, high=1_000_000
    )
    resign_below: float = static(
        -1.0, "Resign where the expected outcome, from -1 to 1, is less; -1 never does.", low=-1.0, high=1.0
    )
    seed: int = static(0, "Seed of a search's noise.", low=0, high=MAX_SEED)


def gtp(arguments: list[str]) -> None:
    """jaxrl gtp DIR [--simulations N] [--resign-below X] [--seed S]"""
    options = opts.parse(GTPOptions, arguments, "jaxrl gtp")
    use_threads(arguments)
    use_compilation_cache()
    from jaxrl.matches.gtp import Engine, rules_of, serve
    from jaxrl.matches.players import go_player, go_run

    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # Nothing but answers may stand on the standard output.
        folder = opts.path_of("folder", options.folder)
        run, size = go_run(folder)
        rules = rules_of(size, **{name: value for name, value in run.env_options.items() if name == "komi"})
        choose = go_player(folder, options.simulations, options.seed)
        choose(rules.opening, rules.komi, ())  # Compiled before the first clock runs.
        serve(Engine(rules, choose, f"jaxrl {run.agent}", options.resign_below), sys.stdin, out)
