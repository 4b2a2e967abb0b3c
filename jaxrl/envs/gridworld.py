"""Grid worlds written as text, each both an environment and an exact MDP of the same arrays.

    env = make("classic", num_envs=8)
    mdp = make_mdp("S.#/..G", slip=0.1)          # a name, a map, or a file that holds one

A map is rows of characters, with `/` or a new line between them:

    .      free                      S      start; where there are several, each is as likely; where there is none, any cell is
    #      wall                      G, T   terminal
    0-9    free, entering it pays that reward              C      cliff: pays -100 and leads back to the start
    A-Z    (the other capitals) jump: whatever the action, the next cell is the one with the same letter in lower case

Actions are 0 north, 1 east, 2 south, 3 west. A move into a wall or off the map stays where it is. With probability `slip` a
move goes to one of the two directions perpendicular to the one that was meant, either with half of it.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxrl.envs.tools.mdp_env import mdp_env
from jaxrl.errors import UsageError, unknown
from jaxrl.fields import check_count
from jaxrl.mdp.grid import MOVES, Grid
from jaxrl.mdp.model import MDP
from jaxrl.mdp.model import make_mdp as make_checked_mdp
from jaxrl.types import Env

_DEFAULT_REWARDS = {"C": -100.0} | {str(digit): float(digit) for digit in range(10)}
_RESERVED = "SGTC"


@dataclasses.dataclass(frozen=True)
class GridWorld:
    """What defines a grid world; every field but `discount` is an option of the environment.

    Attributes:
      map: rows of characters, or the name of a file that holds them. A run remembers the name, not the file.
      step_reward: of every move that nothing else pays.
      bump_reward: of a move into a wall or off the map; None is `step_reward`.
      rewards: of a move that enters a cell with this character, in place of `step_reward`; of a jump's capital letter, that of
        the jump. On the command line "A:10,B:5".
      slip: probability that a move goes to a side.
      time_limit: steps after which an episode is truncated; None is four for each state, and at least 100.
      discount: what `make_mdp` takes unless it is told another.
    """

    map: str
    step_reward: float = -1.0
    bump_reward: float | None = None
    rewards: Mapping[str, float] = dataclasses.field(default_factory=dict)
    slip: float = 0.0
    time_limit: int | None = None
    discount: float = 1.0


WORLDS: dict[str, GridWorld] = {
    # Sutton and Barto 2018, Example 4.1.
    "classic": GridWorld("T.../..../..../...T"),
    # Sutton and Barto 2018, Example 3.5.
    "jumps": GridWorld(".A.B./...../...b./...../.a...", 0.0, bump_reward=-1.0, rewards={"A": 10.0, "B": 5.0}, discount=0.9),
    # Sutton and Barto 2018, Example 6.6: the cliff is not terminal.
    "cliff": GridWorld("............/............/............/SCCCCCCCCCCG"),
    # Russell and Norvig 2021, section 16.1.
    "slippery": GridWorld("...G/.#.T/S...", -0.04, rewards={"G": 1.0, "T": -1.0}, slip=0.2),
    "custom": GridWorld(""),
}
"""Grid worlds by name; `custom` is nothing without the option `map`."""


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B grid worlds whose observation is the number of the state, row by row.

    Args:
      name: of `WORLDS`.
      options: fields of `GridWorld` but `discount`.

    Raises:
      UsageError: a bad map or option.
    """
    return to_env(define("gridworld", WORLDS, name, options), num_envs)


def make_mdp(name_or_map: str, discount: float | None = None, /, **options: Any) -> MDP:
    """The exact MDP of a grid world: the arrays that `make` plays.

    Args:
      name_or_map: of `WORLDS`, or the text or file of a map.
      discount: None is the world's own.
      options: fields of `GridWorld`.
    """
    return to_mdp(_define(name_or_map, options), discount)


def grid_of(name_or_map: str, /, **options: Any) -> Grid:
    """The map of a grid world, with the numbers of its states."""
    return to_grid(_define(name_or_map, options))


def _define(name_or_map: str, options: Mapping[str, Any]) -> GridWorld:
    if name_or_map in WORLDS:
        return define("gridworld", WORLDS, name_or_map, options)
    return define("gridworld", WORLDS, "custom", {"map": name_or_map, **options})


# --- options ----------------------------------------------------------------------------------------------------------


def define(
    family: str, worlds: Mapping[str, GridWorld], name: str, options: Mapping[str, Any], further: tuple[str, ...] = ()
) -> GridWorld:
    """The world `name` with `options` set; its map is read and all of it checked.

    Args:
      further: options that the family has beside those of `GridWorld`, to be named where one is misspelt.

    Raises:
      UsageError: naming the field, the value and the fix.
    """
    if name not in worlds:
        raise UsageError(unknown(f"{family} world", name, worlds))
    base = worlds[name]
    known = [field.name for field in dataclasses.fields(GridWorld) if field.name != "discount"]
    for option in options:
        if option not in known:
            raise UsageError(unknown(f"option of {family}/{name}", option, [*known, *further]))
    if not base.map and "map" not in options:
        raise UsageError(f"{family}/{name} needs a map; give the text or a file, such as map=S.#/..G")
    given = dict(options)
    for option in ("step_reward", "bump_reward", "slip"):
        if option in given:
            given[option] = _number(option, given[option])
    if not 0.0 <= given.get("slip", 0.0) <= 1.0:
        raise UsageError(f"slip={given['slip']} is out of range; give a probability in [0, 1]")
    limit = given.get("time_limit")
    if limit is not None:
        check_count("time_limit", limit)
    text = "/".join(read_map(given.pop("map", base.map)))
    rewards = _rewards(given.pop("rewards", {}), text)
    return dataclasses.replace(base, map=text, rewards=dict(base.rewards) | rewards, **given)


def _number(name: str, value: Any) -> float:
    if isinstance(value, (bool, str)) or not np.isscalar(value) or not math.isfinite(float(value)):  # type: ignore[arg-type]
        raise UsageError(f"{name}={value!r} is not a finite number; give one such as {name}=0.1")
    return float(value)  # type: ignore[arg-type]


def _rewards(value: Any, text: str) -> dict[str, float]:
    """Rewards of characters from a mapping or from text such as "A:10,B:5"."""
    fix = "give them as A:10,B:5, one for each character"
    if isinstance(value, str):
        pairs = [part.split(":") for part in value.split(",")]
        try:
            value = {character.strip(): float(number) for character, number in pairs}
        except ValueError:
            raise UsageError(f"rewards={value!r} cannot be read; {fix}") from None
    if not isinstance(value, Mapping):
        raise UsageError(f"rewards={value!r} cannot be read; {fix}")
    rewards = {str(character): _number(f"rewards[{character}]", number) for character, number in value.items()}
    for character in rewards:
        if len(character) != 1 or character in "#/" or character not in text:
            raise UsageError(f"rewards names {character!r}, no cell of the map; {fix} of the map but #")
    return rewards


def read_map(source: Any) -> tuple[str, ...]:
    """The rows of a map that is given as text or by the name of a file.

    Raises:
      UsageError: no such map.
    """
    if not isinstance(source, str):
        raise UsageError(f"map={source!r} is no text; on the command line write map=\"'...'\" where it looks like a number")
    text, shown = source, f"map={source!r}"
    if os.path.isfile(source):
        try:
            text, shown = Path(source).read_text(), f"map={source}"
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"map={source} cannot be read ({error}); give a text file") from None
    rows = tuple(row.strip() for row in text.strip().replace("\n", "/").split("/"))
    _check_map(shown, rows)
    return rows


def _check_map(shown: str, rows: tuple[str, ...]) -> None:
    for number, row in enumerate(rows, 1):
        wrong = [c for c in row if not (c in ".#" or (c.isascii() and c.isalnum()))]
        if not row or wrong:
            what = f"holds {wrong[0]!r}" if wrong else "is empty"
            raise UsageError(f"{shown} is no file, and as a map its row {number} {what}; write . # S G T C, digits, letters")
        if len(row) != len(rows[0]):
            raise UsageError(f"{shown}: row {number} has {len(row)} cells and row 1 has {len(rows[0])}; make all equally long")
    text = "".join(rows)
    targets = {c for c in text if c.islower()}
    for letter in sorted({c for c in text if c.isupper() and c not in _RESERVED} | {c.upper() for c in targets}):
        if letter in _RESERVED:
            raise UsageError(f"{shown}: {letter.lower()!r} ends no jump, since {letter} is none; use another letter")
        if letter not in text or text.count(letter.lower()) != 1:
            raise UsageError(
                f"{shown}: the jump {letter} needs {letter} and exactly one {letter.lower()} to lead to; write both"
            )
    if "C" in text and text.count("S") != 1:
        raise UsageError(f"{shown}: the cliff C leads back to the start, and there are {text.count('S')}; give one S")
    if set(text) <= set("#GTC"):
        raise UsageError(f"{shown}: there is no cell to start from; add one such as . or S")


# --- from a definition to arrays --------------------------------------------------------------------------------------


def to_grid(world: GridWorld) -> Grid:
    """The map of a checked world, its states numbered row by row."""
    characters = _characters(world)
    free = ~np.isin(characters, ["#", "C"])
    return Grid(tuple(world.map.split("/")), np.where(free, np.cumsum(free).reshape(free.shape) - 1, -1))


def to_mdp(world: GridWorld, discount: float | None = None) -> MDP:
    """The MDP of a checked world."""
    characters, grid = _characters(world), to_grid(world)
    kinds = characters[grid.states >= 0]
    successors, rewards = _directions(world, characters, grid)
    ways = [0, 3, 1] if world.slip > 0 else [0]
    shares = np.array([1.0 - world.slip, world.slip / 2, world.slip / 2] if world.slip > 0 else [1.0])
    # [4, K]: the direction that is gone where action a is meant, itself and then its two sides.
    gone = (np.arange(4)[:, None] + np.array(ways)) % 4
    precision = jnp.result_type(float)
    probabilities = np.broadcast_to(shares.astype(precision), (len(kinds), *gone.shape))
    starts = kinds == "S"
    return make_checked_mdp(
        successors[:, gone],
        probabilities,
        rewards[:, gone],
        world.discount if discount is None else discount,
        initial=starts / starts.sum() if starts.any() else None,
        terminal=np.isin(kinds, ["G", "T"]),
    )


def to_env(world: GridWorld, num_envs: int) -> Env:
    """B environments of a checked world."""
    mdp, grid = to_mdp(world), to_grid(world)
    limit = world.time_limit or max(100, 4 * len(mdp.terminal))
    return mdp_env(mdp, num_envs, limit, lambda params, state: picture(grid, int(state)))


def _characters(world: GridWorld) -> np.ndarray:
    """[H, W] one character a cell."""
    return np.array([list(row) for row in world.map.split("/")])


def _directions(world: GridWorld, characters: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Where going in each direction leads and what it pays: successors, rewards [S, 4]."""
    cells = np.argwhere(grid.states >= 0)
    aim = cells[:, None, :] + np.array(MOVES)
    inside = ((aim >= 0) & (aim < characters.shape)).all(axis=-1)
    row, column = np.moveaxis(np.where(inside[..., None], aim, cells[:, None, :]), -1, 0)
    blocked = ~inside | (characters[row, column] == "#")
    paid = _DEFAULT_REWARDS | dict(world.rewards)
    entering = np.full(characters.shape, world.step_reward)
    for character in np.unique(characters):
        if character in paid and not _is_jump(character):
            entering[characters == character] = paid[character]
    here = grid.states[cells[:, 0], cells[:, 1]][:, None]
    bump = world.step_reward if world.bump_reward is None else world.bump_reward
    successors = np.where(blocked, here, grid.states[row, column])
    rewards = np.where(blocked, bump, entering[row, column])
    if "C" in characters:
        successors = np.where(successors < 0, grid.states[characters == "S"], successors)
    kinds = characters[grid.states >= 0]
    for letter in filter(_is_jump, np.unique(characters)):
        successors[kinds == letter] = grid.states[characters == letter.lower()]
        rewards[kinds == letter] = paid.get(letter, world.step_reward)
    over = np.isin(kinds, ["G", "T"])
    return np.where(over[:, None], here, successors), np.where(over[:, None], 0.0, rewards)


def _is_jump(character: str) -> bool:
    return character.isupper() and character not in _RESERVED


# --- what people look at ----------------------------------------------------------------------------------------------

ARROWS = {(-1, 0): "↑", (0, 1): "→", (1, 0): "↓", (0, -1): "←"}
_PLAIN = {"↑": "^", "→": ">", "↓": "v", "←": "<"}


def policy_text(grid: Grid, action: np.ndarray, plain: bool = False) -> str:
    """A deterministic policy as arrows in the layout of the map.

    Args:
      action: [S].
      plain: `^ > v <` in place of arrows.

    Cells without a choice (walls, terminal cells, cliffs, jumps) show their character.
    """
    lines = []
    for row, states in zip(grid.rows, grid.states, strict=True):
        arrows = [c if _has_no_choice(c) else ARROWS[grid.moves[int(action[s])]] for c, s in zip(row, states, strict=True)]
        lines.append(" ".join(_PLAIN.get(arrow, arrow) if plain else arrow for arrow in arrows))
    return "\n".join(lines)


def _has_no_choice(character: str) -> bool:
    """True of the characters of cells where no action matters."""
    return character in "#GTC" or _is_jump(character)


_SMOOTH = 2
_FREE, _LINE, _WALL, _AGENT = (247, 248, 250), (214, 221, 228), (45, 55, 68), (52, 101, 164)
_COLORS = {"#": _WALL, "S": (214, 226, 242), "G": (60, 150, 90), "T": (150, 158, 168), "C": (222, 143, 52)}
_JUMP = (170, 120, 190)


def picture(grid: Grid, state: int) -> np.ndarray:
    """The map with the agent in its cell; jumps are lines from their cell to the one they lead to.

    Returns:
      [height, width, 3] uint8.
    """
    height, width = grid.states.shape
    size = max(8, min(80, 600 // width, 400 // height))
    side = size * _SMOOTH
    image = Image.new("RGB", (width * side, height * side), _LINE)
    draw = ImageDraw.Draw(image)
    for y, row in enumerate(grid.rows):
        for x, character in enumerate(row):
            color = _COLORS.get(character, _FREE)
            gap = 0 if character == "#" else _SMOOTH // 2
            draw.rectangle([x * side + gap, y * side + gap, (x + 1) * side - 1 - gap, (y + 1) * side - 1 - gap], fill=color)
    _draw_jumps(draw, grid, side)
    y, x = np.argwhere(grid.states == state)[0]
    _dot(draw, (x + 0.5) * side, (y + 0.5) * side, 0.32 * side, _AGENT)
    return np.asarray(image.resize((width * size, height * size), Image.Resampling.BOX), np.uint8)


def _draw_jumps(draw: ImageDraw.ImageDraw, grid: Grid, side: int) -> None:
    places = {c: (x, y) for y, row in enumerate(grid.rows) for x, c in enumerate(row) if c.islower()}
    for y, row in enumerate(grid.rows):
        for x, character in enumerate(row):
            if _is_jump(character):
                start, end = [((i + 0.5) * side, (j + 0.5) * side) for i, j in ((x, y), places[character.lower()])]
                draw.line([start, end], fill=_JUMP, width=max(2, side // 12))
                _dot(draw, *start, 0.22 * side, _JUMP)
                _dot(draw, *end, 0.12 * side, _JUMP)


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)
