"""AlphaZero's self-play: how fast, beside pgx's own example, and what a search costs apart from its network.

    git clone https://github.com/sotetsuk/pgx && PGX_DIR=pgx python benchmarks/search.py --out benchmarks/results/search.json
    python benchmarks/search.py --parts cost --games tic_tac_toe go_9x9

Parts:
  peers   moves/s and network evaluations/s of jaxrl and of pgx's `examples/alphazero/train.py` (see `_peer_runners`) at the
          same settings: as many games, moves, simulations, gradient steps and positions in these, as many convolutions of as
          many channels. Both are compiled once and then take turns, an iteration each: a busy machine troubles both alike.
  cost    microseconds for each position that a search visits: the network alone, the rules alone, the tree alone (a search in
          a game without rules whose network is a formula), the whole search; in one process, the parts taking turns.

All run with one CPU thread, and all seconds are the processor's for that process: those of the clock on an idle machine, and
still comparable on a shared one. Rates by the clock stand beside them.

The arithmetic of an evaluation is that of its matrix products and convolutions on H x W squares, 2 for each multiplication:

    tower   9 H W C (P + 2 blocks C) for P planes and C channels
    heads   jaxrl  H W (8 C + 8 A + 4 C + 4 * 64) + 64 for A actions;  pgx  H W (2 C + 2 A + C + C) + C
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from peers import CHECKOUTS, RUNNERS, Unavailable, check_checkout, cpu_name, python_with, revision, surroundings

REQUIREMENTS = ["pgx", "dm-haiku", "mctx", "optax", "omegaconf", "pydantic"]
DEVIATIONS = {
    "jaxrl": [
        "games go on from one iteration to the next",
        "positions are drawn from a replay of the last games, turned and mirrored",
        "layer normalisation",
        "the heads have 8 and 4 filters, the value's 64 units",
        "an iteration is two programs, not one as in training, so that the self-play can be timed",
    ],
    "pgx": [
        "games begin anew in each iteration, and each position is learned from once",
        "batch normalisation",
        "the heads have 2 and 1 filters, the value's as many units as the tower has channels",
        "rules of Go as pgx has them, with a komi of 0.5; the script itself knows 9x9 and 19x19 alone",
    ],
}
SHIMS = [
    "wandb is a module that hands on the time",
    "pgx.make_baseline_model, which downloads weights, gives nothing, and the evaluation that needs it zeros",
    "jax.pmap waits for its result",
    "jax.device_put_replicated stacks",
    "pgx.make makes Go on small boards",
]
SIMULATIONS = 32
NUM_ENVS = 64
COMPILING = 2
"""First turns of a peer: pgx's script compiles its self-play again after its first gradient steps."""


class Case(NamedTuple):
    """A game and a size of network; each of `moves` moves in every game is an iteration."""

    env: str
    channels: int
    blocks: int
    moves: int

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "env": self.env,
            "num_envs": NUM_ENVS,
            "rollout_length": self.moves,
            "channels": self.channels,
            "blocks": self.blocks,
            "num_simulations": SIMULATIONS,
            "batch_size": 256,
            "learning_rate": 1e-3,
        }


CASES = {
    "connect_four": Case("connect_four", 32, 3, 8),
    "go_5x5": Case("go_5x5", 32, 3, 8),
    "go_9x9": Case("go_9x9", 32, 3, 4),
    "go_5x5, larger": Case("go_5x5", 64, 6, 4),
}
GAMES = {"tic_tac_toe": 3, "connect_four": 12, "go_5x5": 12, "go_9x9": 40}
"""Games of the part `cost`, and the random moves after which they are searched."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured, how often."""

    parts: tuple[str, ...] = ("peers", "cost")
    """Of peers and cost."""
    cases: tuple[str, ...] = tuple(CASES)
    """Of the part `peers`."""
    games: tuple[str, ...] = tuple(GAMES)
    """Of the part `cost`."""
    turns: int = 3
    """Of each process or part, after those that compile."""
    out: Path | None = None
    """JSON file to write; parts that are not measured stay as they are there."""
    worker: str | None = None
    """Internal: measure the cost in this game in this process."""


def main(options: Options) -> int:
    """Measures, prints one JSON object; exit status 1 where a peer could not be measured."""
    if options.worker:
        print(json.dumps(costs(options.worker, options.turns)))
        return 0
    os.environ["NPROC"] = "1"
    report = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    report |= {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": 1,
            "load": [round(load, 1) for load in os.getloadavg()],
        },
    }
    failed = False
    if "cost" in options.parts:
        report.setdefault("cost", {})
        for game in options.games:
            command = [sys.executable, __file__, "--worker", game, "--turns", str(options.turns)]
            done = subprocess.run(command, env=surroundings("jaxrl"), check=True, stdout=subprocess.PIPE, text=True)
            found = report["cost"][game] = json.loads(done.stdout)
            print(f"{game}: {found['microseconds']}", file=sys.stderr)
    if "peers" in options.parts:
        try:
            report["peers"] = report.get("peers", {}) | peers(options)
        except Unavailable as reason:
            print(f"pgx: {reason}", file=sys.stderr)
            failed = True
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    return int(failed)


# --- beside pgx's example -------------------------------------------------------------------------------------------


def peers(options: Options) -> dict[str, Any]:
    """What there is to say of both, and the cases.

    Raises:
      Unavailable: no checkout, pip or a runner failed.
    """
    check_checkout(CHECKOUTS["pgx"], "https://github.com/sotetsuk/pgx", "examples/alphazero/train.py")
    pythons = {"jaxrl": sys.executable, "pgx": python_with("pgx", REQUIREMENTS)}
    result: dict[str, Any] = {"deviations": DEVIATIONS, "shims": SHIMS, "revisions": {name: revision(name) for name in pythons}}
    for name in options.cases:
        case, load = CASES[name], os.getloadavg()[0]
        turns = take_turns(pythons, case.settings, options.turns)
        found = {who: rates(case, who, seconds) for who, seconds in turns.items()}
        result[name] = {"settings": case.settings, "load_before": round(load, 1)} | found
        for what in ("selfplay", "iteration"):
            result[name][f"jaxrl_is_faster_by_{what}"] = faster(turns, what)
            print(f"{name}: {what} {result[name][f'jaxrl_is_faster_by_{what}']} times as fast", file=sys.stderr)
    return result


def take_turns(pythons: dict[str, str], settings: dict[str, Any], turns: int) -> dict[str, list[dict[str, Any]]]:
    """name -> what each turn of its runner answered, the first `COMPILING` of which compiled.

    Raises:
      Unavailable: a runner ended before its time.
    """
    processes = {}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    try:
        for turn in range(COMPILING + turns):
            for name, python in pythons.items():
                if turn == 0:
                    command = [python, str(RUNNERS / f"run_{name}_alphazero.py"), json.dumps(settings), "0"]
                    processes[name] = subprocess.Popen(
                        command,
                        env=surroundings(name),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                    )
                else:
                    print(file=processes[name].stdin, flush=True)
                line = processes[name].stdout.readline()
                if not line:
                    raise Unavailable(f"its runner ended with status {processes[name].wait()}")
                answers[name].append(json.loads(line))
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()
    return answers


def rates(case: Case, who: str, turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of all turns that did not compile."""
    moves = NUM_ENVS * case.moves

    def median(what: str, clock: str) -> float:
        return statistics.median(turn[what][clock] for turn in turns[COMPILING:])

    playing = median("selfplay", "cpu")
    return {
        "moves_per_second": round(moves / playing, 1),
        "evaluations_per_second": round(moves * (SIMULATIONS + 1) / playing),
        "moves_per_second_by_the_clock": round(moves / median("selfplay", "wall"), 1),
        "iteration_moves_per_second": round(moves / median("iteration", "cpu"), 1),
        "first_iteration_seconds": round(turns[0]["iteration"]["cpu"], 1),
        "mflop_per_evaluation": {part: round(n / 1e6, 3) for part, n in evaluation_flops(case, who).items()},
        "all_selfplay_seconds": [round(turn["selfplay"]["cpu"], 3) for turn in turns[COMPILING:]],
        "all_iteration_seconds": [round(turn["iteration"]["cpu"], 3) for turn in turns[COMPILING:]],
    }


def faster(turns: dict[str, list[dict[str, Any]]], what: str) -> float:
    """The median over turns of the peer's seconds by ours."""
    pairs = zip(turns["pgx"][COMPILING:], turns["jaxrl"][COMPILING:], strict=True)
    return round(statistics.median(theirs[what]["cpu"] / ours[what]["cpu"] for theirs, ours in pairs), 2)


def evaluation_flops(case: Case, who: str) -> dict[str, int]:
    """Of one position, as in the module's formula."""
    from jaxrl.envs import make

    spec = make(f"pgx/{case.env}", 1).spec
    height, width, planes = spec.obs.leaves[0].shape
    squares, actions, c = height * width, spec.action.n, case.channels
    tower = 9 * squares * c * (planes + 2 * case.blocks * c)
    heads = squares * (12 * c + 8 * actions + 256) + 64 if who == "jaxrl" else squares * (4 * c + 2 * actions) + c
    return {"tower": 2 * tower, "heads": 2 * heads}


# --- what a search costs --------------------------------------------------------------------------------------------


def costs(game: str, turns: int) -> dict[str, Any]:
    """Microseconds of the parts of a search in this process, for each position visited (the root and each simulation)."""
    import jax
    import jax.numpy as jnp

    from jaxrl import loop
    from jaxrl.agents.search.alphazero import AlphaZeroConfig, look_ahead, make_alphazero, network_of
    from jaxrl.config import as_arrays
    from jaxrl.envs import make
    from jaxrl.types import Position

    env = make(f"pgx/{game}", NUM_ENVS)
    config = as_arrays(AlphaZeroConfig(num_envs=NUM_ENVS, num_simulations=SIMULATIONS))
    apply, model = network_of(config, env.spec).apply, loop.bound_model(env)
    state = jax.jit(lambda key: loop.init_state(key, loop.build_in(make_alphazero, config, env), env))(jax.random.key(0))
    params, played = state.agent.policy, jnp.zeros(NUM_ENVS, jnp.int32)

    def random_move(carry: Any, key: Any) -> Any:
        state, obs = carry
        action = jnp.argmax(jnp.where(obs.legal, jax.random.uniform(key, obs.legal.shape), -1.0), axis=-1)
        state, timestep = env.step(key, env.params, state, action)
        return (state, timestep.obs), None

    moves = jax.random.split(jax.random.key(1), GAMES[game])
    obs = jax.jit(lambda carry: jax.lax.scan(random_move, carry, moves)[0][1])((state.env, state.obs))
    # The legal actions first, in any order.
    shuffled = jnp.argsort(-jnp.where(obs.legal, jax.random.uniform(jax.random.key(2), obs.legal.shape), -1.0), axis=-1)

    def network(_: Any, data: Any) -> Any:
        params, planes = data
        logits, value = apply(params, planes)
        # What was seen feeds what is seen next, so nothing can be left out.
        return (params, planes ^ (value > 2.0)[:, None, None, None]), (logits, value)

    def rules(index: Any, data: Any) -> Any:
        obs, shuffled = data
        action = jnp.take_along_axis(shuffled, (index % jnp.sum(obs.legal, axis=-1))[:, None], axis=-1)[:, 0]
        bare = Position((), (), obs.state)
        return data, jax.vmap(model, in_axes=(None, 0, 0))(jax.random.key(0), bare, action)

    def tree(index: Any, legal: Any) -> Any:
        def moved(key: Any, obs: Any, action: Any) -> Any:
            return Position((), obs.state[1], (obs.state[0] * 31 + action + 1, obs.state[1])), 0.0, False

        def formula(obs: Any) -> Any:
            return jnp.zeros(legal.shape), jnp.sin(obs.state[0].astype(jnp.float32))

        bare, key = Position((), legal, (jnp.arange(NUM_ENVS) + index, legal)), jax.random.fold_in(jax.random.key(3), index)
        return legal, look_ahead(key, config, moved, formula, bare, played, True)

    def whole(index: Any, data: Any) -> Any:
        params, obs = data
        key = jax.random.fold_in(jax.random.key(4), index)
        return data, look_ahead(key, config, model, lambda obs: apply(params, obs.planes), obs, played, True)

    def product(_: Any, data: Any) -> Any:
        a, b = data
        return (a + 1e-9 * jnp.max(a @ b), b), ()

    rows, channels = obs.planes[..., 0].size, config.channels
    patches = jax.random.normal(jax.random.key(5), (rows, 9 * channels))
    weights = jax.random.normal(jax.random.key(6), (9 * channels, channels))
    visited = SIMULATIONS + 1
    found = taking_turns(
        {
            "network": Part(network, (params, obs.planes), visited),
            "rules": Part(rules, (obs, shuffled), 10 * visited),
            "tree": Part(tree, obs.legal, 4, visited),
            "whole": Part(whole, (params, obs), 1, visited),
            "product": Part(product, (patches, weights), 2 * visited),
        },
        turns,
    )
    microseconds = {name: 1e6 * value / NUM_ENVS for name, value in found.items()}
    squares = rows // NUM_ENVS
    flops = evaluation_flops(Case(game, channels, config.blocks, 0), "jaxrl")
    rate = 2 * squares * 9 * channels**2 / microseconds.pop("product") / 1e3
    reached = sum(flops.values()) / microseconds["network"] / 1e3
    apart = microseconds["whole"] - microseconds["network"]
    return {
        "microseconds": {name: round(value, 2) for name, value in microseconds.items()}
        | {"search apart from the network": round(apart, 2)},
        "search_apart_by_network": round(apart / microseconds["network"], 3),
        "gflops_network": round(reached, 1),
        "gflops_largest_product": round(rate, 1),
        "network_share_of_largest_product": round(reached / rate, 3),
        "network": {"channels": channels, "blocks": config.blocks, "games": NUM_ENVS, "simulations": SIMULATIONS},
    }


class Part(NamedTuple):
    """A piece of work.

    Attributes:
      step: (index, data) -> (data, result), which uses nothing else that the compiler could work out before.
      data: of the first step.
      repeats: steps in one timed loop.
      pieces: of what is asked for, in one step.
    """

    step: Callable[[Any, Any], Any]
    data: Any
    repeats: int
    pieces: int = 1


def taking_turns(parts: dict[str, Part], turns: int) -> dict[str, float]:
    """Median processor seconds of a piece of each, the parts taking turns."""
    import jax
    import jax.numpy as jnp

    runs = {}
    for name, part in parts.items():
        # The result is carried as well, so that none is left out.
        shapes = jax.eval_shape(part.step, 0, part.data)[1]
        carry = part.data, jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def loop(carry: Any, part: Part = part) -> Any:
            return jax.lax.fori_loop(0, part.repeats, lambda index, carry: part.step(index, carry[0]), carry)

        runs[name] = (jax.jit(loop).lower(carry).compile(), carry)
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(1 + turns):
        for name, (run, carry) in runs.items():
            begun = time.process_time()
            jax.block_until_ready(run(carry))
            times[name].append((time.process_time() - begun) / (parts[name].repeats * parts[name].pieces))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
