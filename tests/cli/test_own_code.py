"""A user's own code that fails: the frames that are the user's, one line, 2 before training and 1 after it began."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.cli import main
from jaxrl.config import Config, agent_config
from jaxrl.types import Agent, ArraySpec, Discrete, Spec, TimeStep


@agent_config
class StillConfig(Config):
    """No fields of its own."""


class Learned(NamedTuple):
    policy: Any


def make_still(config: StillConfig, spec, model=None):
    return Agent(
        init=lambda key: Learned(jnp.zeros(())),
        act=lambda key, policy, memory, obs, progress, explore: (jnp.zeros(obs.shape[0], jnp.int32), memory, ()),
        update=lambda key, state, rollout, progress: (state, {}),
    )


class Robot:
    """Falls in its fifth step after a reset."""

    spec = Spec(ArraySpec((1,), "float32"), Discrete(2), 4)

    def __init__(self, num_envs):
        self.num_envs = num_envs

    def reset(self, seed):
        self.steps = 0
        return np.zeros((self.num_envs, 1), np.float32)

    def step(self, action):
        self.steps += 1
        if self.steps == 5:
            raise ValueError("the robot fell")
        zeros, no = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        obs = np.zeros((self.num_envs, 1))
        return TimeStep(obs, zeros, no, no, obs, {"episode_return": zeros, "episode_length": zeros})

    def close(self):
        pass


def ended(capsys, *arguments):
    """(exit code, lines on standard error) of a command."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code, capsys.readouterr().err.strip().splitlines()


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("import numpyy", "failed in the import of 'broken': ModuleNotFoundError: No module named 'numpyy'"),
        ("1 / 0", "failed in the import of 'broken': ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('usage')", "failed in the import of 'broken': SystemExit: usage"),
        (
            "def make(num_envs):\n  return 1 / 0",
            "failed in make(num_envs, ...) -> Env | HostEnv: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_a_module_that_fails_is_shown_with_its_own_lines_alone(tmp_path, monkeypatch, capsys, source, last):
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "broken", raising=False)
    code, lines = ended(capsys, "train", "ppo", "--env", "broken:make", "--out", str(tmp_path / "run"))
    assert code == 2 and not (tmp_path / "run").exists()
    assert lines[0] == "Your own code (most recent call last):" and lines[-1] == f"jaxrl: env='broken:make' {last}"
    files = {line.split('"')[1] for line in lines if line.startswith("  File")}
    assert files == {str(tmp_path / "broken.py")}


def test_a_file_that_is_no_python_is_shown_where_it_is_wrong(tmp_path, monkeypatch, capsys):
    (tmp_path / "garbled.py").write_text("def make(:")
    monkeypatch.syspath_prepend(tmp_path)
    code, lines = ended(capsys, "train", "garbled:make", "--env", "probe/constant")
    assert code == 2 and "garbled.py" in lines[0] and "def make(:" in lines[1]
    assert lines[-1].startswith("jaxrl: agent='garbled:make' failed in the import of 'garbled': SyntaxError")


def test_what_fails_after_training_began_leaves_a_run_to_go_on_with(tmp_path, capsys):
    out = tmp_path / "run"
    own = f"{__name__}:make_still", "--env", f"{__name__}:Robot", "--num-envs", "2"
    code, lines = ended(capsys, "train", *own, "--total-steps", "40", "--out", str(out))
    assert code == 1 and (out / "config.json").exists()
    assert "ValueError: the robot fell" in lines and str(Path(__file__)) in " ".join(lines)
    line = f"jaxrl: env='{__name__}:Robot' failed in step(action) -> TimeStep: ValueError: the robot fell"
    assert lines[-1] == f"{line}; go on with: jaxrl resume {out}"


def make_calling(config: StillConfig, spec, model=None):
    def fall(x):
        raise ValueError("the callback fell")

    def update(key, state, rollout, progress):
        return Learned(jax.pure_callback(fall, jax.ShapeDtypeStruct((), jnp.float32), state.policy)), {}

    return make_still(config, spec)._replace(update=update)


@pytest.mark.slow
def test_a_callback_from_within_a_compiled_program_is_shown_as_such(tmp_path, capsys):
    own = f"{__name__}:make_calling", "--env", "probe/constant", "--num-envs", "2"
    code, lines = ended(capsys, "train", *own, "--total-steps", "40", "--out", str(tmp_path / "run"))
    assert code == 1 and lines[-2] == "ValueError: the callback fell"
    assert lines[-1].startswith("jaxrl: your own code failed in fall: ValueError: the callback fell; go on with: ")
