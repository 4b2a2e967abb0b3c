"""Grid worlds, mazes, garnets and the gymnax environments that are known MDPs: maps, transitions, values of textbooks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.misc import frozen_lake, rooms
from matplotlib.figure import Figure

from jaxrl import envs
from jaxrl.analysis.mdp_plot import draw_maze, greedy_actions
from jaxrl.envs import ENVS, gridworld, maze
from jaxrl.envs import gymnax as adapter
from jaxrl.errors import UsageError
from jaxrl.mdp import solvers as mdps
from jaxrl.mdp.model import MDP
from jaxrl.types import ArraySpec, Discrete

NORTH, EAST, SOUTH, WEST = range(4)


def outcome(mdp, state, action):
    """{(successor, reward): probability} of one state and action."""
    found = {}
    for after, share, reward in zip(
        np.asarray(mdp.successors[state, action]),
        np.asarray(mdp.probabilities[state, action], float),
        np.asarray(mdp.rewards[state, action], float),
        strict=True,
    ):
        key = (int(after), round(float(reward), 4))
        found[key] = round(found.get(key, 0.0) + share, 6)
    return {key: share for key, share in found.items() if share > 0}


def optimal(mdp):
    return np.asarray(jax.jit(mdps.value_iteration)(mdp).value)


# --- what a map means -------------------------------------------------------------------------------------------------


def test_walls_and_the_edge_block():
    mdp = gridworld.make_mdp("S#./..G")  # States 0, 1 above; 2, 3, 4 below.
    assert [outcome(mdp, 0, action) for action in range(4)] == [
        {(0, -1.0): 1.0},
        {(0, -1.0): 1.0},
        {(2, -1.0): 1.0},
        {(0, -1.0): 1.0},
    ]
    assert outcome(mdp, 1, WEST) == {(1, -1.0): 1.0}


def test_goals_are_terminal_and_starts_share_the_beginning():
    mdp = gridworld.make_mdp("S.S/T.G")
    np.testing.assert_array_equal(mdp.terminal, [False, False, False, True, False, True])
    np.testing.assert_allclose(mdp.initial, [0.5, 0, 0.5, 0, 0, 0])


def test_without_a_start_every_cell_that_is_not_terminal_begins():
    np.testing.assert_allclose(gridworld.make_mdp("..G").initial, [0.5, 0.5, 0.0])


def test_a_slip_goes_to_either_side_with_half_its_probability():
    mdp = gridworld.make_mdp(".../.S./..G", slip=0.2)
    assert outcome(mdp, 4, NORTH) == {(1, -1.0): 0.8, (3, -1.0): 0.1, (5, -1.0): 0.1}
    assert outcome(mdp, 4, EAST) == {(5, -1.0): 0.8, (1, -1.0): 0.1, (7, -1.0): 0.1}
    assert outcome(mdp, 0, NORTH) == {(0, -1.0): 0.9, (1, -1.0): 0.1}


@pytest.mark.parametrize("slip", [0.0, 0.3, 1.0])
def test_rows_of_probabilities_sum_to_one(slip):
    mdp = gridworld.make_mdp("S.5/#A./a.G", slip=slip)
    np.testing.assert_allclose(mdp.probabilities.sum(-1), 1.0, rtol=1e-6)


def test_a_jump_pays_and_leads_on_whatever_the_action():
    mdp = gridworld.make_mdp("jumps")
    for action in range(4):
        assert outcome(mdp, 1, action) == {(21, 10.0): 1.0}
        assert outcome(mdp, 3, action) == {(13, 5.0): 1.0}
    assert outcome(mdp, 0, NORTH) == {(0, -1.0): 1.0}
    assert outcome(mdp, 0, EAST) == {(1, 0.0): 1.0}


def test_the_cliff_costs_a_hundred_and_leads_back_to_the_start_without_an_end():
    mdp = gridworld.make_mdp("cliff")  # Three rows of 12, then the start (36) and the goal (37).
    assert mdp.terminal.tolist() == [False] * 37 + [True]
    assert outcome(mdp, 36, EAST) == {(36, -100.0): 1.0}
    assert outcome(mdp, 25, SOUTH) == {(36, -100.0): 1.0}
    assert outcome(mdp, 35, SOUTH) == {(37, -1.0): 1.0}


def test_digits_and_rewards_pay_on_entry_and_bumps_do_not():
    mdp = gridworld.make_mdp("S3G", rewards={"G": 7, "S": -2}, bump_reward=-0.5)
    assert outcome(mdp, 0, EAST) == {(1, 3.0): 1.0}
    assert outcome(mdp, 1, NORTH) == {(1, -0.5): 1.0}
    assert outcome(mdp, 1, EAST) == {(2, 7.0): 1.0}
    assert outcome(mdp, 1, WEST) == {(0, -2.0): 1.0}


def test_a_map_is_text_or_a_file(tmp_path):
    (tmp_path / "my.txt").write_text("S.#\n..G\n")
    texts = ["S.#/..G", "S.#\n..G", str(tmp_path / "my.txt")]
    first, *others = [gridworld.make_mdp(text) for text in texts]
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)


def test_rewards_may_be_written_as_text():
    given, written = gridworld.make_mdp("S1G", rewards={"1": -4.0, "G": 2}), gridworld.make_mdp("S1G", rewards="1:-4, G:2")
    np.testing.assert_array_equal(given.rewards, written.rewards)


BAD = {
    "unknown character": ({"map": "S?G"}, r"map='S\?G' is no file, and as a map its row 1 holds '\?'; write"),
    "unequal rows": ({"map": "S.G/.."}, "map='S.G/..': row 2 has 2 cells and row 1 has 3; make all equally long"),
    "empty row": ({"map": "S.G//..."}, "row 2 is empty; write"),
    "missing file": ({"map": "nowhere/my-map"}, "map='nowhere/my-map' is no file"),
    "a number": ({"map": 5}, "map=5 is no text"),
    "no map": ({}, "gridworld/custom needs a map; give the text or a file"),
    "no end of a jump": ({"map": "SAG"}, "the jump A needs A and exactly one a"),
    "no start of a jump": ({"map": "SaG"}, "the jump A needs A and exactly one a"),
    "two ends of a jump": ({"map": "AaaG"}, "the jump A needs A and exactly one a"),
    "the end of no jump": ({"map": "S.g"}, "'g' ends no jump, since G is none; use another letter"),
    "a cliff without start": ({"map": "..C/..G"}, "the cliff C leads back to the start, and there are 0; give one S"),
    "no free cell": ({"map": "#G#"}, "there is no cell to start from; add one"),
    "slip": ({"map": "S.G", "slip": 1.5}, r"slip=1.5 is out of range; give a probability in \[0, 1\]"),
    "slip as text": ({"map": "S.G", "slip": "often"}, "slip='often' is not a finite number; give one"),
    "step reward": ({"map": "S.G", "step_reward": float("nan")}, "step_reward=nan is not a finite number; give one"),
    "time limit": ({"map": "S.G", "time_limit": 0}, "time_limit=0 is out of range; give a whole number of at least 1"),
    "rewards of no cell": ({"map": "S.G", "rewards": {"B": 1}}, "rewards names 'B', no cell of the map; give"),
    "rewards as a number": ({"map": "S.G", "rewards": 3}, "rewards=3 cannot be read; give them as A:10,B:5"),
    "rewards as bad text": ({"map": "S.G", "rewards": "G=1"}, "rewards='G=1' cannot be read; give them as A:10,B:5"),
    "unknown option": ({"map": "S.G", "slipp": 0.1}, "unknown option of gridworld/custom 'slipp'; did you mean slip"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_map_or_option_is_answered_with_field_value_and_fix(case):
    options, message = BAD[case]
    with pytest.raises(UsageError, match=message) as error:
        envs.make("gridworld/custom", **options)
    assert "\n" not in str(error.value)


# --- the environment is the MDP ---------------------------------------------------------------------------------------


def test_the_static_table_is_what_the_modules_hold():
    assert ENVS["gridworld"] == tuple(gridworld.WORLDS)
    assert ENVS["maze"] == tuple(maze.WORLDS)


@pytest.mark.parametrize("env_id", ["gridworld/slippery", "maze/loop", "garnet/random"])
def test_the_environment_plays_the_arrays_that_are_solved(env_id):
    env, mdp = envs.make(env_id, 3), envs.exact(env_id)
    jax.tree.map(np.testing.assert_array_equal, env.params, mdp)
    num_states, num_actions, _ = mdp.successors.shape
    assert (env.spec.obs, env.spec.action) == (ArraySpec((), "int32", num_states), Discrete(num_actions))


def frequencies(env, state, action, count):
    """[S] how often each state follows, of `count` steps of one environment."""
    num_states = env.spec.obs.num_values
    before, _ = jax.jit(env.reset)(jax.random.key(0), env.params)
    before = before._replace(inner=jnp.full(count, state))
    _, step = jax.jit(env.step)(jax.random.key(1), env.params, before, jnp.full(count, action))
    return np.bincount(step.next_obs, minlength=num_states) / count, step


def test_the_environment_moves_as_often_as_the_slip_says():
    # State 5 of `...G/.#.T/S...` has the wall in the west and states 2 and 9 to the sides.
    found, step = frequencies(envs.make("gridworld/slippery", 4000), 5, WEST, 4000)
    expected = np.zeros(11)
    expected[[5, 2, 9]] = 0.8, 0.1, 0.1
    np.testing.assert_allclose(found, expected, atol=0.03)
    np.testing.assert_allclose(step.reward, -0.04, rtol=1e-6)


def test_episodes_end_at_the_goal_and_at_the_time_limit():
    env = envs.make("gridworld/custom", 2, map="SG", time_limit=2)
    play = jax.jit(env.step)
    state, obs = env.reset(jax.random.key(0), env.params)
    assert obs.tolist() == [0, 0]
    state, step = play(jax.random.key(1), env.params, state, jnp.array([EAST, WEST]))
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([True, False], [False, False])
    _, step = play(jax.random.key(2), env.params, state, jnp.array([WEST, WEST]))
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([False, False], [False, True])


def test_a_picture_shows_the_agent_where_it_is():
    env = envs.make("gridworld/classic", 2)
    state, _ = env.reset(jax.random.key(0), env.params)
    pictures = [env.render(env.params, state._replace(inner=jnp.array([0, cell])), 1) for cell in (1, 14)]
    for picture, (row, column) in zip(pictures, [(0, 1), (3, 2)], strict=True):
        assert (picture.shape, picture.dtype) == ((320, 320, 3), np.uint8)
        rows, columns = np.nonzero((picture == (52, 101, 164)).all(axis=-1))
        assert (rows.mean(), columns.mean()) == (pytest.approx(80 * row + 39.5), pytest.approx(80 * column + 39.5))


# --- values of the textbooks ------------------------------------------------------------------------------------------


def test_the_random_policy_of_the_classic_grid_has_the_values_of_figure_4_1():
    mdp = envs.exact("gridworld/classic")
    value = jax.jit(lambda m: mdps.policy_evaluation(m, mdps.uniform_policy(m)))(mdp)
    book = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
    np.testing.assert_allclose(value, book, atol=1e-3)


def test_the_jumps_have_the_values_of_figure_3_5():
    book = [
        [22.0, 24.4, 22.0, 19.4, 17.5],
        [19.8, 22.0, 19.8, 17.8, 16.0],
        [17.8, 19.8, 17.8, 16.0, 14.4],
        [16.0, 17.8, 16.0, 14.4, 13.0],
        [14.4, 16.0, 14.4, 13.0, 11.7],
    ]
    np.testing.assert_allclose(optimal(envs.exact("gridworld/jumps")).reshape(5, 5), book, atol=0.051)


def test_the_slippery_grid_has_the_utilities_of_russell_and_norvig():
    # Artificial Intelligence: A Modern Approach, fourth edition, figure 16.3; gamma 1.
    book = [0.8516, 0.9078, 0.9578, 0, 0.8016, 0.7003, 0, 0.7453, 0.6953, 0.6514, 0.4279]
    np.testing.assert_allclose(optimal(envs.exact("gridworld/slippery")), book, atol=1.01e-4)


def test_the_shortest_way_along_the_cliff_takes_thirteen_steps():
    assert optimal(envs.exact("gridworld/cliff"))[36] == pytest.approx(-13.0)


# --- mazes ------------------------------------------------------------------------------------------------------------


def distances(layout):
    """[S] steps to the goal by breadth-first search over the text of the map, -1 where there is no way."""
    rows, found = layout.rows, {}
    queue = [(y, x) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell == "G"]
    found = dict.fromkeys(queue, 0)
    for y, x in queue:
        for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= j < len(rows) and 0 <= i < len(rows[0])
            if inside and rows[j][i] != "#" and (j, i) not in found:
                found[j, i] = found[y, x] + 1
                queue.append((j, i))
    return np.array([found.get((y, x), -1) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell != "#"])


@pytest.mark.parametrize(
    ("name", "options"), [("classic", {}), ("loop", {}), ("large", {}), ("random", {"seed": 3, "loops": 0.3})]
)
def test_the_value_of_a_cell_of_a_maze_is_minus_its_distance(name, options):
    value = optimal(envs.exact(f"maze/{name}", **options))
    np.testing.assert_allclose(value, -distances(envs.grid_of(f"maze/{name}", **options)), atol=1e-3)


def test_the_classic_maze_takes_sixteen_steps_and_its_farthest_corner_twenty_four():
    mdp = envs.exact("maze/classic")
    value = optimal(mdp)
    assert float(mdps.start_value(mdp, value)) == pytest.approx(-16.0)
    assert value.min() == pytest.approx(-24.0)


def test_a_random_maze_has_one_way_between_any_two_cells():
    for seed in range(5):
        rows = maze.random_maze(9, 13, seed).split("/")
        free = {(y, x) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell != "#"}
        edges = sum(((y + 1, x) in free) + ((y, x + 1) in free) for y, x in free)
        # Connected, and a tree: one edge fewer than cells.
        assert edges == len(free) - 1
        assert (distances(maze.grid_of("random", height=9, width=13, seed=seed)) >= 0).all()


def test_the_seed_makes_the_maze():
    assert maze.random_maze(seed=1) == maze.random_maze(seed=1) != maze.random_maze(seed=2)


def test_more_walls_are_opened_where_loops_are_wished():
    closed, opened = (maze.random_maze(15, 15, 0, loops).count("#") for loops in (0.0, 0.5))
    assert opened < closed - 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 10}, "height=10 is no size of a maze; give an odd number of at least 5"),
        ({"width": 3}, "width=3 is no size of a maze"),
        ({"seed": -1}, "seed=-1 is out of range; give a whole number of at least 0"),
        ({"loops": 2}, r"loops=2 is out of range; give a share in \[0, 1\]"),
        ({"hight": 9}, "unknown option of maze/random 'hight'; did you mean height"),
    ],
)
def test_a_bad_option_of_a_random_maze_is_answered_with_the_fix(options, message):
    with pytest.raises(UsageError, match=message):
        envs.make("maze/random", **options)


def test_a_maze_of_a_fixed_map_has_no_size():
    with pytest.raises(UsageError, match="unknown option of maze/classic 'height'"):
        envs.make("maze/classic", height=9)


# --- garnets ----------------------------------------------------------------------------------------------------------


def test_a_garnet_has_the_size_that_is_asked_for():
    mdp = envs.exact("garnet/random", states=12, actions=3, branching=5, seed=4)
    assert mdp.successors.shape == (12, 3, 5)
    other = envs.exact("garnet/random", states=12, actions=3, branching=5, seed=5)
    assert (mdp.rewards != other.rewards).any()


def test_a_garnet_is_the_same_in_double_precision_and_inside_a_traced_function():
    mdp = envs.exact("garnet/random")
    with jax.enable_x64(True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7), mdp, envs.exact("garnet/random"))
    inside = jax.jit(lambda: envs.make("garnet/random", 1).params.rewards)()
    np.testing.assert_array_equal(inside, mdp.rewards)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"states": 0}, "states=0 is out of range; give a whole number of at least 1"),
        ({"branching": 21}, "branching=21 exceeds states=20; lower branching"),
        ({"sates": 3}, "unknown option of garnet/random 'sates'; did you mean states"),
    ],
)
def test_a_bad_option_of_a_garnet_is_answered_with_the_fix(options, message):
    with pytest.raises(UsageError, match=message):
        envs.make("garnet/random", **options)


# --- gymnax -----------------------------------------------------------------------------------------------------------


def gymnax_frequencies(name, options, count=6000):
    """[count] states before, actions, states after, rewards, ends of random steps of gymnax's own environment."""
    env, params = adapter._construct(name, options)
    mdp = envs.exact(name, **options)
    key_state, key_action, key_step = jax.random.split(jax.random.key(0), 3)
    number = jax.random.choice(key_state, np.flatnonzero(~np.asarray(mdp.terminal)), (count,))
    action = jax.random.randint(key_action, (count,), 0, 4)
    if name == "FrozenLake-misc":
        states = frozen_lake.EnvState(position=number, time=jnp.zeros(count, int))
    else:
        goals = jnp.broadcast_to(env.goal_fixed, (count, 2))
        states = rooms.EnvState(pos=env.coords[number], goal=goals, time=jnp.zeros(count, int))
    keys = jax.random.split(key_step, count)
    _, after, reward, ended, _ = jax.jit(jax.vmap(env.step_env, in_axes=(0, 0, 0, None)))(keys, states, action, params)
    if name == "FrozenLake-misc":
        following = after.position
    else:
        following = (after.pos[:, None] == env.coords).all(-1).argmax(-1)
    return mdp, *(np.asarray(array) for array in (number, action, following, reward, ended))


GYMNAX = [
    ("FrozenLake-misc", {}),
    ("FrozenLake-misc", {"map_name": "8x8", "success_rate": 0.8, "reward_schedule": (5.0, -1.0, -0.1)}),
    pytest.param("FrozenLake-misc", {"is_slippery": False}, marks=pytest.mark.slow),
    pytest.param("FourRooms-misc", {}, marks=pytest.mark.slow),
    ("FourRooms-misc", {"fail_prob": 0.1, "goal_fixed": [1, 1], "resample_init_pos": True}),
]


@pytest.mark.parametrize(("name", "options"), GYMNAX)
def test_the_mdp_of_a_gymnax_environment_steps_as_it_does(name, options):
    mdp, before, action, after, reward, ended = gymnax_frequencies(name, options)
    possible = (mdp.successors[before, action] == after[:, None]) & (mdp.probabilities[before, action] > 0)
    assert possible.any(axis=1).all()
    which = np.argmax(np.asarray(possible), axis=1)
    np.testing.assert_allclose(reward, mdp.rewards[before, action, which], rtol=1e-6)
    np.testing.assert_array_equal(ended, np.asarray(mdp.terminal)[after])
    # How likely what happened was, on average: E[p] = mean over rows of sum p^2, by the MDP and as it was seen.
    same = mdp.successors[..., :, None] == mdp.successors[..., None, :]
    row = jnp.sum(same * mdp.probabilities[..., None] * mdp.probabilities[..., None, :], axis=(-1, -2))
    seen = jnp.sum(jnp.where(possible, mdp.probabilities[before, action], 0.0), axis=1)
    assert float(seen.mean()) == pytest.approx(float(row[before, action].mean()), abs=0.02)


@pytest.mark.parametrize(("name", "options"), [GYMNAX[0], GYMNAX[-1]])
def test_the_mdp_of_a_gymnax_environment_starts_as_it_does(name, options):
    env, params = adapter._construct(name, options)
    _, state = jax.vmap(env.reset_env, in_axes=(0, None))(jax.random.split(jax.random.key(0), 4000), params)
    if name == "FrozenLake-misc":
        starts = state.position
    else:
        starts = (state.pos[:, None] == env.coords).all(-1).argmax(-1)
    mdp = envs.exact(name, **options)
    found = np.bincount(starts, minlength=len(mdp.initial)) / 4000
    np.testing.assert_allclose(found, mdp.initial, atol=0.01)


def test_frozen_lake_has_the_value_that_is_known_for_it():
    # The best chance of reaching the goal of the 4x4 lake: 14/17 without a limit of time.
    mdp = envs.exact("FrozenLake-misc", discount=1.0)
    assert float(mdps.start_value(mdp, optimal(mdp))) == pytest.approx(14 / 17, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample_goal_pos": True}, "resample_goal_pos=True makes every goal another MDP; leave it out"),
        ({"goal_fixed": [0, 0]}, r"goal_fixed=\[0, 0\] is no free cell; give"),
        ({"pos_fixed": [8, 9]}, r"pos_fixed=\[8, 9\] is the goal"),
    ],
)
def test_four_rooms_that_are_no_single_mdp_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        envs.exact("FourRooms-misc", **options)


@pytest.mark.parametrize("name", ["FrozenLake-misc", "FourRooms-misc"])
def test_the_map_of_a_gymnax_environment_numbers_its_states(name):
    layout, mdp = envs.grid_of(name), envs.exact(name)
    characters = np.array([list(row) for row in layout.rows])
    assert np.unique(layout.states[layout.states >= 0]).tolist() == list(range(len(mdp.terminal)))
    assert set(characters[layout.states >= 0][np.asarray(mdp.terminal)]) <= {"G", "T"}
    assert layout.rows[int(np.argwhere(characters == "S")[0, 0])].count("S") == 1
    assert layout.states[characters == "S"].tolist() == np.flatnonzero(mdp.initial).tolist()


# --- exact ------------------------------------------------------------------------------------------------------------


def own_mdp(num_envs):
    """Your own environment of an MDP."""
    return gridworld.make("custom", num_envs, map="S..G")


def test_your_own_environment_of_an_mdp_is_exact():
    assert optimal(envs.exact(f"{__name__}:own_mdp"))[0] == pytest.approx(-3.0)


def test_an_environment_without_a_known_mdp_is_answered_with_those_that_have_one():
    with pytest.raises(UsageError, match="env='CartPole-v1' is not known as an MDP of arrays; choose one of gridworld/classic"):
        envs.exact("CartPole-v1")


def test_every_exact_id_has_an_mdp():
    for env_id in envs.exact_ids():
        assert isinstance(envs.exact(env_id, **({"map": "S.G"} if env_id == "gridworld/custom" else {})), MDP)


def test_a_discount_replaces_the_worlds_own():
    assert float(envs.exact("gridworld/jumps").discount) == pytest.approx(0.9)
    assert float(envs.exact("gridworld/jumps", 0.5).discount) == 0.5
    with pytest.raises(UsageError, match="gamma=2 is out of range"):
        envs.exact("gridworld/jumps", 2)


# --- pictures of solutions --------------------------------------------------------------------------------------------


def test_a_maze_is_drawn_with_numbers_arrows_and_what_is_known():
    layout, mdp = envs.grid_of("maze/classic"), envs.exact("maze/classic")
    solution = jax.jit(mdps.value_iteration)(mdp)
    value_axes, policy_axes, model_axes = Figure(figsize=(12, 4)).subplots(1, 3)
    assert draw_maze(value_axes, layout, values=solution.value) is not None
    texts = [text.get_text() for text in value_axes.texts]
    assert sorted(texts) == sorted(["S", "G", *(f"{round(v)}" for v in solution.value.tolist() if round(v) != 0)])
    assert draw_maze(policy_axes, layout, policy=solution.policy) is None
    assert sum(hasattr(text, "arrow_patch") and text.arrow_patch is not None for text in policy_axes.texts) == 27
    successors = np.full((28, 4), -1)
    successors[0, EAST], successors[0, NORTH] = 1, 0
    draw_maze(model_axes, layout, model=(successors, np.full((28, 4), -1.0)))
    assert len(model_axes.lines) == 2
    assert [text.get_text() for text in model_axes.texts].count("-1") == 1


def test_equally_good_actions_are_all_greedy():
    np.testing.assert_allclose(greedy_actions(np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]])), [[0.5, 0.5, 0], [0, 1, 0]])
