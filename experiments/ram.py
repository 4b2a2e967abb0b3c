"""The Recurrent Attention Model: where a trained run looks, as pictures.

    jaxrl train ram --env glimpse/digits --total-steps 600000 --out runs/ram
    python experiments/ram.py figures runs/ram --out pictures

`paths.png` has the path over each picture and what the retina saw at each step, `answers.png` right answers beside wrong ones,
`locations.png` where the glimpses lie, and `glimpses.gif` the same glimpse by glimpse. The examples are the first of the test.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np
import tyro

import jaxrl
from jaxrl.analysis.curves import save_figure
from jaxrl.analysis.glimpses import Played, draw_answers, draw_locations, draw_paths
from jaxrl.envs import evaluation_options, pictures_per_second
from jaxrl.envs.tools.glimpse_pictures import draw_glimpse
from jaxrl.envs.tools.render import save_gif
from jaxrl.errors import UsageError
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


if __name__ == "__main__":
    try:
        app.cli(description=__doc__)
    except UsageError as error:
        print(f"ram.py: {error}", file=sys.stderr)
        sys.exit(2)
