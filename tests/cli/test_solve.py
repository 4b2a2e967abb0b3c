"""`jaxrl solve`: what it prints, what it draws, what it refuses."""

import os
import re
import sys
from pathlib import Path

import jax
import pytest
from PIL import Image

from helpers import run_python
from jaxrl.cli import commands as cli
from jaxrl.cli.solve import report, solve
from jaxrl.envs import ENVS


@pytest.fixture(autouse=True)
def process(tmp_path, monkeypatch):
    """An empty working directory, and what the command sets in its process is set back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("NPROC", "1")


def printed(capsys, *arguments):
    """The lines that `jaxrl solve` prints."""
    capsys.readouterr()
    cli.main(["solve", *arguments])
    out, err = capsys.readouterr()
    assert err.startswith(f"learn it: jaxrl train q_learning --env {arguments[0]}") and err.count("\n") == 1
    return out.splitlines()


def refusal(capsys, *arguments):
    """The one line with which `jaxrl solve` refuses; it wrote nothing."""
    before = sorted(Path.cwd().rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(["solve", *arguments])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert sorted(Path.cwd().rglob("*")) == before
    assert re.fullmatch(r"jaxrl: [^\n]+\n", err)
    return err


def test_the_classic_grid_is_solved_as_in_the_book(capsys):
    # The farthest cells are three steps away; the fourth sweep finds nothing new. 14 cells: 4 of 1, 6 of 2, 4 of 3 steps; and
    # by figure 4.1 the random policy takes 4 x 14, 2 x 18, 6 x 20 and 2 x 22 steps.
    lines = printed(capsys, "gridworld/classic")
    assert lines[:4] == [
        "gridworld/classic: 16 states, 4 actions, gamma 1",
        "value iteration: 4 sweeps",
        "value of the start: -2 (random policy: -18.2857)",
        "policy:",
    ]
    assert len(lines) == 8
    rows = [line.split() for line in lines[4:]]
    assert rows[0][:3] == ["T", "←", "←"]
    assert [row[0] for row in rows] == ["T", "↑", "↑", rows[3][0]]
    assert rows[3][1:] == ["→", "→", "T"]


def test_the_classic_maze_prints_its_one_way(capsys):
    assert printed(capsys, "maze/classic")[2:] == [
        "value of the start: -16 (random policy: -1188)",
        "policy:",
        "# # # # # # # # # #",
        "# # → → → → → ↓ # #",
        "# → ↑ # # ↑ # ↓ # #",
        "# # ↑ ← # # ↓ ← # #",
        "# # # ↑ ← # ↓ # # #",
        "# # ↓ # ↑ # → ↓ # #",
        "# # → → ↑ ← # → → G",
        "# # # # # # # # # #",
    ]


def test_policy_iteration_finds_the_same_value(capsys):
    lines = printed(capsys, "gridworld/slippery", "--method", "policy-iteration")
    assert re.fullmatch(r"policy iteration: \d improvements", lines[1])
    # Russell & Norvig, figure 16.3.
    assert lines[2].startswith("value of the start: 0.7453 ")
    assert lines[4:] == ["→ → → G", "↑ # ↑ T", "↑ ← ← ←"]


def test_gamma_is_the_worlds_own_unless_given(capsys):
    lines = printed(capsys, "gridworld/jumps")
    assert lines[0].endswith("gamma 0.9")
    # The mean of figure 3.5 is 17.3 to the digit that it prints.
    assert lines[2].startswith("value of the start: 17.3")
    lines = printed(capsys, "maze/classic", "--gamma", "0.5")
    assert lines[0].endswith("gamma 0.5")
    # -(1 + 1/2 + ... + 1/2^15) = -1.99997, shown to four digits.
    assert lines[2].startswith("value of the start: -2 ")


def test_options_of_the_environment_reach_it(capsys):
    lines = printed(capsys, "gridworld/custom", "--env-option", "map=S.A/###/a.G", "rewards=A:-5", "step_reward=-2")
    assert lines[2].startswith("value of the start: -13 ")
    assert lines[4:] == ["→ → A", "# # #", "→ → G"]


def test_what_is_no_grid_is_a_table_of_its_first_states(capsys):
    lines = printed(capsys, "garnet/random", "--env-option", "states=30", "actions=3")
    assert lines[0] == "garnet/random: 30 states, 3 actions, gamma 0.9"
    assert lines[4].split() == ["state", "action", "value"]
    assert [line.split()[0] for line in lines[5:]] == [*map(str, range(20)), "and"]
    assert lines[-1] == "  and 10 more"


def test_a_gymnax_lake_is_solved(capsys):
    # Known for the 4x4 lake and gamma 0.99; actions are west, south, east, north there.
    lines = printed(capsys, "FrozenLake-misc")
    assert lines[2].startswith("value of the start: 0.542 ")
    assert lines[4:] == ["← ↑ ↑ ↑", "← T ← T", "↑ ↓ ← T", "T → ↓ G"]


def test_a_terminal_without_arrows_gets_plain_ones():
    assert report(solve("maze/classic", "value-iteration"), "ascii").splitlines()[5] == "# # > > > > > v # #"


def test_solving_leaves_the_precision_of_the_process_as_it_was(capsys):
    printed(capsys, "gridworld/classic")
    assert not jax.config.jax_enable_x64


def test_values_of_the_random_policy_that_do_not_settle_are_not_shown(monkeypatch, capsys):
    monkeypatch.setattr("jaxrl.mdp.solvers.MAX_DENSE_STATES", 10)
    monkeypatch.setattr("jaxrl.cli.solve.MAX_SWEEPS", 50)
    lines = printed(capsys, "maze/classic", "--plot", "maze.png")
    assert lines[2] == "value of the start: -16 (random policy: does not settle)"
    with Image.open("maze.png") as alone:
        assert alone.width < 900


@pytest.mark.parametrize("env", ["maze/classic", "garnet/random --env-option states=30 actions=3"])
def test_plot_draws_a_picture(env, capsys):
    assert printed(capsys, *env.split(), "--plot", "solved.png")[-1] == "solved.png"
    with Image.open("solved.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_gamma_of_one_without_an_end_is_refused(capsys):
    line = refusal(capsys, "gridworld/jumps", "--gamma", "1", "--plot", "x.png")
    assert (
        "gamma=1 needs an end in reach of every state, and state 0 (row 1, column 1) reaches none; give a lower gamma" in line
    )
    assert "state 2 (row 3, column 1) reaches none" in refusal(
        capsys, "gridworld/custom", "--env-option", "map=SG/##/..", "--plot", "x.png"
    )
    assert "state 0 reaches none" in refusal(capsys, "garnet/random", "--gamma", "1")


@pytest.mark.parametrize("method", ["value-iteration", "policy-iteration"])
def test_gamma_of_one_where_it_pays_to_go_on_for_ever_is_refused(method, capsys):
    line = refusal(capsys, "gridworld/custom", "--env-option", "map=aS.A/...G", "rewards=A:10", "--method", method)
    assert "gamma=1 gives no finite values here, where it pays to go on for ever; give a gamma below 1" in line


BAD = {
    "": "env is missing; give one",
    "gridworld/clasic": "did you mean gridworld/classic",
    "CartPole-v1": "env='CartPole-v1' is not known as an MDP of arrays; choose one of gridworld/classic",
    "gymnasium/CartPole-v1": "env='gymnasium/CartPole-v1' is not known as an MDP of arrays",
    "gridworld/custom": "gridworld/custom needs a map",
    "maze/classic --method magic": "method='magic' is unknown; choose one of value-iteration, policy-iteration",
    "maze/classic --gamma 1.5": "gamma=1.5 is out of range; give a value in [0, 1]",
    "maze/classic --gamma nan": "gamma=nan is not a finite number",
    "maze/classic --gamma much": "gamma='much' is not of type float",
    "maze/classic --tolerance 0": "tolerance=0.0 is out of range; give a value above 0",
    "maze/classic --plot nowhere/x.png": "plot=nowhere/x.png cannot be written: its folder does not exist; make it first",
    "maze/classic --plot .": "plot='.' names no file",
    "maze/classic --plot x.foo": "plot=x.foo cannot be written",
    "maze/classic --env-option slip": "env_option='slip' is not NAME=VALUE",
    "maze/classic --env-option slip=2": "slip=2.0 is out of range",
    "maze/classic --env-option slop=2": "did you mean slip",
    "maze/classic --plto x.png": "did you mean plot",
}


@pytest.mark.parametrize("arguments", BAD)
def test_solve_refuses_naming_field_value_and_fix(arguments, capsys):
    assert BAD[arguments] in refusal(capsys, *arguments.split())


def test_the_help_explains_every_option_without_jax():
    program = "import sys; from jaxrl.cli import main\ntry: main(['solve', '--help'])\nfinally: print('jax' in sys.modules)"
    out, _ = run_python("-c", program, env=os.environ | {"COLUMNS": "100"})
    assert out.splitlines()[-1] == "False"
    for words in ("ENV", "--method", "--gamma", "--tolerance", "--plot", "--env-option NAME=VALUE"):
        assert words in out


def test_list_shows_the_families_whose_mdp_is_known(capsys):
    cli.main(["list", "envs"])
    out = capsys.readouterr().out
    for family in ("gridworld", "maze", "garnet"):
        assert f"  {family}: " + ", ".join(f"{family}/{name}" for name in ENVS[family]) in out
