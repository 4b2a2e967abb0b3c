"""The Recurrent Attention Model: where a run looks, as pictures; the paper's table beside ours; what the baseline is worth.

    jaxrl train ram --env glimpse/digits --total-steps 600000 --out runs/ram
    python experiments/ram.py figures runs/ram --out pictures

    JAXRL_DATA_DIR=... jaxrl reproduce attention --out experiments/results
    python experiments/ram.py table
    python experiments/ram.py variance

`paths.png` has the path over each picture and what the retina saw at each step, `answers.png` right answers beside wrong ones,
`locations.png` where the glimpses lie, and `glimpses.gif` the same glimpse by glimpse. The examples are the first of the test.
`table` writes the paper's table with ours beside it, `ram.md`, from the results of `jaxrl reproduce`.
`variance` trains on digits and measures the gradient of where to look with and without baseline; see `ram_variance.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np
import ram_variance
import tyro
from scipy.stats import binomtest

import jaxrl
from jaxrl.analysis.curves import save_figure
from jaxrl.analysis.glimpses import Played, draw_answers, draw_locations, draw_paths
from jaxrl.claims.table import read_claims
from jaxrl.envs import evaluation_options, pictures_per_second
from jaxrl.envs.tools.glimpse_pictures import draw_glimpse
from jaxrl.envs.tools.render import save_gif
from jaxrl.errors import UsageError
from jaxrl.records.files import write_whole
from jaxrl.runs.definition import read_run
from jaxrl.types import Env

app = tyro.extras.SubcommandApp()
ROWS, HELD = 4, 3


def play(folder: Path, num: int, seed: int = 0) -> Played:
    """What a run's trained policy does with the first `num` pictures of the test, or all where there are fewer.

    Raises:
      UsageError: no run, no checkpoint, or a run whose environment shows no glimpses.
    """
    run = read_run(folder)
    if not run.env.startswith("glimpse/"):
        raise UsageError(f"env={run.env!r} of {folder} shows no glimpses; give a run of glimpse/...")
    policy = jaxrl.load(folder)
    options = evaluation_options(run.env, run.env_options, run.eval_env_options) | {"samples": 1}
    env = jaxrl.make(run.env, num, **options)
    assert isinstance(env, Env)
    key_reset, key = jax.random.split(jax.random.key(seed))
    state, obs = jax.jit(env.reset)(key_reset, env.params)
    first, memory, step, seen = state, policy.initial_memory(num), jax.jit(env.step), []
    for _ in range(env.spec.time_limit or 0):
        seen.append(jax.tree.map(np.asarray, obs))
        action, memory = policy.step(obs, memory)
        state, timestep = step(key, env.params, state, action)
        obs = timestep.obs
    paths, patches = (np.stack([getattr(one, name) for one in seen], axis=1) for name in ("location", "patches"))
    played = Played(*map(np.asarray, (first.picture, first.label, paths, patches, action.label)))
    return played.take(np.asarray(first.counted))


def frames(played: Played) -> list[np.ndarray]:
    """Each picture glimpse by glimpse, with the answer at the last one, which stays."""
    drawn = []
    for one in map(played.take, range(len(played.labels))):
        num = len(one.paths)
        for step in range(num):
            seen = one.images, one.paths[: step + 1, None], one.patches[step]
            drawn.append(draw_glimpse(*seen, num, int(one.labels), int(one.answers) if step == num - 1 else None))
        drawn += drawn[-1:] * (HELD - 1)
    return drawn


@app.command
def figures(run: tyro.conf.Positional[Path], /, out: Path = Path("pictures"), num: int = 10_000, seed: int = 0) -> None:
    """Draws where the trained policy of a run looks.

    Args:
      run: folder of a run of `jaxrl train ram`.
      out: folder to write to.
      num: pictures of the test to play, from its first on.
      seed: of where the first glimpses are.
    """
    played = play(run, num, seed)
    right, wrong = np.flatnonzero(played.is_right), np.flatnonzero(~played.is_right)
    examples = played.take(np.concatenate([right[: ROWS - 1], wrong[:1]]))
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "paths": draw_paths(examples),
        "answers": draw_answers(played),
        "locations": draw_locations(played),
    }.items():
        save_figure(figure, out / f"{name}.png", "out")
    save_gif(out / "glimpses.gif", frames(examples), pictures_per_second(read_run(run).env))
    for name in ("paths.png", "answers.png", "locations.png", "glimpses.gif"):
        print(out / name)


NUM_TEST = 10_000
EDITIONS = {
    "ram-mnist-2": "6.27",
    "ram-mnist-4": "1.73",
    "ram-mnist-6": "1.29",
    "ram-translated-4": "2.29",
    "ram-translated-6": "1.86",
    "ram-translated-8": "1.84",
    "ram-cluttered-8": "5.23",
    "ram-cluttered100-8": "10.83",
}
"""Errors in percent as the preprint prints them; those of the proceedings are the claims'."""


@app.command
def table(results: Path = Path("experiments/results")) -> None:
    """Writes the paper's table beside ours, errors in percent.

    Args:
      results: folder with the results of `jaxrl reproduce attention`, and of the table.
    """
    lines = ["| claim | what | published | preprint | ours | 95 % interval | seeds | epochs |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for result in read_claims(results):
        claim = result["claim"]
        if claim["group"] != "attention" or result["mean"] is None:
            continue
        error = 1.0 - float(result["mean"])
        # Of the test pictures, for which each seed's errors are much the same ones.
        interval = binomtest(round(error * NUM_TEST), NUM_TEST).proportion_ci(method="wilson")
        low, high = (f"{100 * end:.2f}" for end in interval)
        published = "" if claim["name"] == "ram-cluttered100-8" else f"{100 * (1 - claim['published']['mean']):.2f}"
        steps = claim["env_options"]["num_glimpses"] * 60_000
        cells = [
            f"`{claim['name']}`",
            claim["protocol"]["rules"],
            published,
            EDITIONS.get(claim["name"], ""),
            f"{100 * error:.2f}",
            f"[{low}, {high}]",
            str(result["num_seeds"]),
            f"{result['env_steps'] / steps:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if len(lines) == 2:
        raise UsageError(
            f"{results} holds no result of the attention model; make one with: jaxrl reproduce ram-mnist-6 --out {results}"
        )
    print("\n".join(lines))
    write_whole(results / "ram.md", "\n".join([*HEAD, "", *lines, ""]))


HEAD = (
    "# The Recurrent Attention Model: errors in percent",
    "",
    "Published: Mnih et al. 2014, NIPS proceedings and preprint. Intervals are binomial (Wilson) over the 10,000 test",
    "pictures, of the mean over seeds. Written by `python experiments/ram.py table`.",
)


@app.command
def variance(
    marks: tuple[int, ...] = (0, 100, 400, 1600),
    batches: int = 40,
    seed: int = 0,
    results: Path = Path("experiments/results"),
) -> None:
    """Measures how the baseline changes variance and mean of the location network's gradient while digits are learned.

    Args:
      marks: iterations of training after which to measure, from few to many.
      batches: batches of pictures at each of them.
      seed: of the run and of the pictures.
      results: folder to write `ram-variance.json` and `ram-variance.png` to.
    """
    if not marks or marks[0] < 0 or sorted(set(marks)) != list(marks):
        raise UsageError(
            f"marks={' '.join(map(str, marks))} do not rise; give numbers of iterations from 0 on, each above the last"
        )
    if batches < 2:
        raise UsageError(f"batches={batches} is out of range; give at least 2")
    ram_variance.variance(list(marks), batches, seed, results)


if __name__ == "__main__":
    try:
        app.cli(description=__doc__)
    except UsageError as error:
        print(f"ram.py: {error}", file=sys.stderr)
        sys.exit(2)
