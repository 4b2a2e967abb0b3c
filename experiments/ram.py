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
from typing import Any

import jax
import numpy as np
import ram_variance
import tyro

import jaxrl
from jaxrl.analysis.curves import save_figure
from jaxrl.analysis.glimpses import Played, draw_answers, draw_locations, draw_paths
from jaxrl.analysis.results import read_results
from jaxrl.analysis.stats import wilson_interval
from jaxrl.claims.attention import PREPRINT, TEST, TRAINING
from jaxrl.claims.table import read_claims
from jaxrl.envs import evaluation_options, pictures_per_second
from jaxrl.envs.tools.glimpse_pictures import draw_glimpse
from jaxrl.envs.tools.render import save_gif
from jaxrl.errors import UsageError
from jaxrl.records.files import read_json, write_json, write_whole
from jaxrl.runs.definition import read_run
from jaxrl.sweeps.api import SweepResult
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


RESULTS = Path(__file__).parent / "results"
PATHS = "ram-paths.json"
COLUMNS = ("claim", "glimpses", "published", "preprint", "ours", "95 % interval", "several paths", "seeds", "epochs")


@app.command
def paths(runs: tyro.conf.Positional[Path], /, samples: int = 10, out: Path = RESULTS) -> None:
    """Scores the policies that `jaxrl reproduce attention` has trained along several paths of glimpses each.

    Args:
      runs: folder `runs` of what `jaxrl reproduce` wrote.
      samples: paths, of which the class probabilities are averaged.
      out: folder with the results, to which `ram-paths.json` is written.
    """
    errors = {}
    for folder in sorted(path.parent for path in runs.glob("ram-*/results.csv")):
        trained = SweepResult(folder, read_results(folder))
        scores = [trained.evaluate(run, TEST, env_options={"samples": samples}) for run in range(len(trained.results.run))]
        errors[folder.name] = [round(1.0 - score["mean"], 6) for score in scores]
        print(folder.name, errors[folder.name])
    if not errors:
        raise UsageError(f"runs={runs} holds no finished run of the attention model; give the folder runs of a reproduction")
    write_json(out / PATHS, {"samples": samples, "errors": errors})


@app.command
def table(results: Path = RESULTS) -> None:
    """Writes the paper's table with ours beside it, errors in percent.

    Args:
      results: folder with the results of `jaxrl reproduce attention`, and for the table.
    """
    found = [result for result in read_claims(results) if result["claim"]["group"] == "attention"]
    if not found:
        raise UsageError(f"results={results} has none of the attention model; make one with: jaxrl reproduce ram-mnist-6")
    page = markdown(found, read_paths(results / PATHS))
    write_whole(results / "ram.md", page)
    print(page)


def read_paths(file: Path) -> dict[str, Any]:
    """What `paths` wrote; no errors where it was not run."""
    if not file.exists():
        return {"samples": 0, "errors": {}}
    return read_json(file, {"samples": int, "errors": dict}, "write it again with: python experiments/ram.py paths RUNS")


def markdown(found: list[dict[str, Any]], several: dict[str, Any]) -> str:
    """The page of these results; `several` is what `paths` wrote."""
    rows = [COLUMNS, ["---", "---", *["---:"] * (len(COLUMNS) - 2)]]
    for result in found:
        claim, error = result["claim"], 1.0 - float(result["mean"])
        name, options = claim["name"], claim["env_options"]
        # Of the test pictures: the seeds err on much the same ones.
        low, high = wilson_interval(round(error * TEST), TEST)
        along = several["errors"].get(name, [])
        rows.append(
            [
                f"`{name}`",
                f"{options['num_glimpses']} of {options['size']}x{options['size']}, {options.get('num_scales', 1)} scales",
                "" if name == "ram-cluttered100-8" else _percent(1.0 - claim["published"]["mean"]),
                str(PREPRINT.get(name, "")),
                _percent(error),
                f"[{_percent(low)}, {_percent(high)}]",
                _percent(sum(along) / len(along)) if along else "",
                str(result["num_seeds"]),
                f"{result['env_steps'] / (TRAINING * options['num_glimpses']):.0f}",
            ]
        )
    lines = [
        "# The Recurrent Attention Model: test errors in percent",
        "",
        "Published: Mnih et al. 2014, as the NIPS proceedings and as the preprint print it. Ours: MNIST's 10,000 test",
        "pictures, each seen once along one path; the interval is binomial (Wilson) over the pictures, of the mean over seeds.",
        f"Several paths: the same policies, with the class probabilities of {several['samples']} paths averaged. Written by",
        "`python experiments/ram.py table` from the results of `jaxrl reproduce attention` and of",
        "`python experiments/ram.py paths`.",
        "",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _percent(share: float) -> str:
    return f"{100.0 * share:.2f}"


@app.command
def variance(
    marks: tuple[int, ...] = (0, 100, 400, 1600),
    batches: int = 40,
    seed: int = 0,
    results: Path = RESULTS,
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
