"""CrossQ against an implementation in numpy and float64: joint batches, targets, statistics, and gradients by differences."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import progress_at
from jaxrl.agents import load_agent
from jaxrl.agents.continuous.crossq import CrossQConfig, make_crossq
from jaxrl.config import as_arrays
from jaxrl.loop import build
from jaxrl.nets.batch_norm import STATISTICS
from jaxrl.replay.experience import Sample
from jaxrl.replay.ring import Transitions
from jaxrl.types import ArraySpec, Box, Spec

SPEC, NUM = Spec(ArraySpec((2,), "float32"), Box((1,))), 5
STILL = 1e-12
"""A step size that leaves parameters, and a temperature that leaves values, as they are."""


def scattered(variables: Any, seed: int) -> Any:
    """Parameters and running statistics at random, with variances from 0.5 to 2."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> Any:
        if leaf.dtype == jnp.int32:
            return leaf
        low, high = (0.5, 2.0) if "variance" in jax.tree_util.keystr(path) else (-1.0, 1.0)
        return np.float32(rng.uniform(low, high, leaf.shape))

    return jax.tree.map_with_path(draw, variables)


@jax.jit
def first_state(config: Any) -> Any:
    return build(make_crossq, config, SPEC).init(jax.random.key(0))


@jax.jit
def learned(config: Any, state: Any, sample: Sample, progress: Any) -> Any:
    """(the state, metrics) after an update; one program for all values of traced fields."""
    return build(make_crossq, config, SPEC).replay.learn(jax.random.key(5), state, sample, progress)[:2]


def made(**fields: Any) -> tuple[Any, Any]:
    """The config of an agent with one hidden layer of three units, and a state whose actor hardly deviates from its mean."""
    own = {"hidden": (3,), "batch_size": NUM, "capacity": 64, "learning_rate": STILL, "policy_delay": 1}
    config = as_arrays(CrossQConfig(**own | {"auto_temperature": False, "temperature": STILL} | fields))
    state = first_state(config)
    actor = scattered(state.policy.params, 1)
    last = actor["params"]["Dense_0"]
    sure = {
        "kernel": last["kernel"] * np.float32([1.0, 0.0]),
        "bias": last["bias"] * np.float32([1.0, 0.0]) + np.float32([0.0, -20.0]),
    }
    actor = actor | {"params": actor["params"] | {"Dense_0": sure}}
    return config, state._replace(policy=state.policy._replace(params=actor), critic=scattered(state.critic, 2))


def a_batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = {"obs": (NUM, 2), "action": (NUM, 1), "reward": (NUM,), "discount": (NUM,), "next_obs": (NUM, 2)}
    return {name: np.float32(rng.uniform(-1.0, 1.0, shape)) for name, shape in shapes.items()}


def learn(config: Any, state: Any, batch: dict[str, np.ndarray], iteration: int = 0) -> tuple[Any, dict[str, float]]:
    transitions = Transitions(**{name: leaf[None] for name, leaf in batch.items()})
    sample = Sample(transitions, np.zeros((1, NUM), np.int32), np.ones((1, NUM), np.float32), np.int32(NUM))
    after, metrics = learned(config, state, sample, progress_at(iteration, 100))
    return after, {name: float(value) for name, value in metrics.items()}


class Numpy:
    """A network with one hidden layer of rectifiers, a normalisation in front of it and one behind.

    Attributes:
      params, held: of the network, as float64; the latter {layer: [mean, variance]}.
      corrections: (r, d) of each layer in turn, held fixed where they are given.
    """

    def __init__(self, variables: Any, warm: bool = False, critic: int | None = None) -> None:
        def pick(leaf: Any) -> np.ndarray:
            return np.asarray(leaf if critic is None else leaf[critic], np.float64)

        self.params = jax.tree.map(pick, variables["params"])
        held = jax.tree.map(pick, variables[STATISTICS])["MLP_0"]
        self.held = {name: [held[name]["mean"], held[name]["variance"]] for name in held}
        self.warm = warm
        self.corrections: list[tuple[Any, Any]] | None = None

    def __call__(self, x: np.ndarray, fit: bool) -> tuple[np.ndarray, dict[str, Any], list[tuple[Any, Any]]]:
        layers, changed, used = self.params["MLP_0"], {}, []
        y = x
        for name in ("BatchRenorm_0", "Dense_0", "BatchRenorm_1"):
            layer = layers[name]
            if name == "Dense_0":
                y = np.maximum(y @ layer["kernel"] + layer["bias"], 0.0)
                continue
            mean, variance = self.held[name]
            running = np.sqrt(variance + 1e-3)
            if fit:
                m, v = y.mean(0), y.var(0)
                changed[name] = [0.99 * mean + 0.01 * m, 0.99 * variance + 0.01 * v]
                r, d = np.clip(np.sqrt(v + 1e-3) / running, 1 / 3, 3), np.clip((m - mean) / running, -5, 5)
                r, d = (r, d) if self.warm else (1.0, 0.0)
                r, d = (r, d) if self.corrections is None else self.corrections[len(used)]
                used.append((r, d))
                y = (y - m) / np.sqrt(v + 1e-3) * r + d
            else:
                y = (y - mean) / running
            y = y * layer["scale"] + layer["bias"]
        return y @ self.params["Dense_0"]["kernel"] + self.params["Dense_0"]["bias"], changed, used

    def slope(self, loss: Any) -> float:
        """The squared norm of the gradient of a loss by all parameters, by central differences."""
        total, step = 0.0, 1e-6
        for leaf in jax.tree.leaves(self.params):
            for index in np.ndindex(leaf.shape):
                before = leaf[index]
                leaf[index] = before + step
                above = loss()
                leaf[index] = before - step
                below = loss()
                leaf[index] = before
                total += ((above - below) / (2 * step)) ** 2
        return total


def assert_statistics(variables: Any, changed: list[dict[str, Any]] | dict[str, Any]) -> None:
    """The running statistics of a network, or of critics, are those expected, after one batch."""
    for name, layer in variables[STATISTICS]["MLP_0"].items():
        rows = [item[name] for item in changed] if isinstance(changed, list) else changed[name]
        expected = np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])
        expected = expected if isinstance(changed, list) else (rows[0], rows[1])
        np.testing.assert_allclose(layer["mean"], expected[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer["variance"], expected[1], rtol=1e-4, atol=1e-6)
        assert (np.asarray(layer["num_batches"]) == 1).all()


@pytest.mark.parametrize("warm", [False, True])
def test_one_update_is_that_of_an_independent_implementation(warm: bool) -> None:
    """(s, a) and (s', a') are one batch of critics that are their own target, through which no gradient goes.

    a' is by the running statistics, a target by those of the joint batch; the actor is fitted by those of its batch to critics
    that go by running ones, which the joint batch has moved.
    """
    config, state = made(batch_norm_warmup=0 if warm else 100)
    batch = a_batch()
    after, metrics = learn(config, state, batch)

    next_action = np.tanh(Numpy(state.policy.params)(batch["next_obs"], False)[0][:, :1])
    rows = np.concatenate([batch["obs"], batch["next_obs"]]), np.concatenate([batch["action"], next_action])
    joint = np.concatenate(rows, axis=1)
    critics = [Numpy(state.critic, warm, critic) for critic in range(2)]
    made_of = [critic(joint, True) for critic in critics]
    q, q_next = (np.stack([out[:, 0] for out, _, _ in made_of])[:, part] for part in (slice(NUM), slice(NUM, None)))
    goal = batch["reward"] + batch["discount"] * q_next.min(0)
    assert metrics["loss"] == pytest.approx(np.sum(np.mean(0.5 * (goal - q) ** 2, axis=1)), rel=1e-4)
    assert metrics["td_error"] == pytest.approx(np.mean(np.abs(goal - q)), rel=1e-4)
    assert metrics["q_mean"] == pytest.approx(np.mean(q), rel=1e-3, abs=1e-4)
    assert_statistics(after.critic, [changed for _, changed, _ in made_of])

    slopes = 0.0
    for critic, (_, _, corrections) in zip(critics, made_of, strict=True):
        critic.corrections = corrections
        slopes += critic.slope(lambda critic=critic: np.mean(0.5 * (goal - critic(joint, True)[0][:NUM, 0]) ** 2))
    assert metrics["grad_norm"] == pytest.approx(slopes**0.5, rel=1e-3)

    actor = Numpy(state.policy.params, warm)
    _, changed, corrections = actor(batch["obs"], True)
    assert_statistics(after.policy.params, changed)
    actor.corrections = corrections
    judges = [Numpy(after.critic, critic=critic) for critic in range(2)]

    def actor_loss() -> float:
        seen = np.concatenate([batch["obs"], np.tanh(actor(batch["obs"], True)[0][:, :1])], axis=1)
        return float(-np.mean(np.min([judge(seen, False)[0] for judge in judges], axis=0)))

    assert metrics["actor_loss"] == pytest.approx(actor_loss(), rel=1e-4)
    assert metrics["actor_grad_norm"] == pytest.approx(actor.slope(actor_loss) ** 0.5, rel=1e-3)


def test_an_actor_acts_by_running_statistics_so_that_actions_do_not_depend_on_the_batch() -> None:
    config, state = made()
    obs = np.float32(np.random.default_rng(4).normal(size=(6, 2)))
    expected = np.tanh(Numpy(state.policy.params)(obs, False)[0][:, :1])

    @functools.partial(jax.jit, static_argnums=1)
    def act(obs: Any, explore: bool) -> Any:
        agent = build(make_crossq, config, SPEC)
        return agent.act(jax.random.key(0), state.policy, (), obs, progress_at(9, 10), explore)[0]

    for explore, num in ((False, 6), (False, 1), (True, 6)):
        np.testing.assert_allclose(act(obs[:num], explore), expected[:num], rtol=1e-4, atol=1e-5)


def test_statistics_of_the_actor_move_with_its_gradient_steps_alone_and_there_is_no_target() -> None:
    config, state = made(policy_delay=3)
    assert state.target == {} and "tau" not in load_agent("crossq")[1].__dataclass_fields__
    for iteration, steps in enumerate((0, 0, 1, 1)):
        state, _ = learn(config, state, a_batch(), iteration)
        num = {
            name: np.unique(layer["num_batches"]).tolist() for name, layer in state.policy.params[STATISTICS]["MLP_0"].items()
        }
        assert num == {"BatchRenorm_0": [steps], "BatchRenorm_1": [steps]}
        assert np.unique(state.critic[STATISTICS]["MLP_0"]["BatchRenorm_0"]["num_batches"]).tolist() == [iteration + 1]


def test_the_optimizer_of_actor_and_critics_forgets_by_b1() -> None:
    """Two gradient steps with step size 0, the same gradient g but for the statistics: m = (1 - b1) (1 + b1) g."""
    for b1 in (0.0, 0.5):
        config, state = made(adam_b1=b1, batch_norm_warmup=100)
        moment = 0.0
        for iteration in range(2):
            state, metrics = learn(config, state, a_batch(), iteration)
            moment = float(jnp.linalg.norm(state.opt_state["critic"].mu))
        assert moment == pytest.approx((1 - b1) * (1 + b1) * metrics["grad_norm"], rel=1e-4)
