"""REINFORCE's ladder of variance reduction: bias and variance of every estimator on a small MDP, learning curves on CartPole.

    python experiments/variance_reduction.py

A fixed softmax policy acts in a small MDP, and every episode gives one estimate of the gradient,

    g = sum_t  f_t (w_t - b_t) phi_t,    phi_t = grad log pi(a_t | s_t),    f_t = gamma^t or 1

whose variance is the trace of its covariance. All episodes that can happen are enumerated, so the gradient of the discounted
return and the expectation and variance of each estimator are exact, in NumPy and without jaxrl's code; beside them stand mean
and variance of what jaxrl's code makes of sampled episodes. A baseline b_t = b(t, s_t) knows nothing of the action, so the
expectation stays:

    average         one number, the expectation of w over steps
    value           V(t, s_t), the expected discounted rewards of the steps that are left; wrong_value has an error added
    step_optimal    E[|phi_t|^2 w_t | s_t] / E[|phi_t|^2 | s_t]: the variance of each term of the sum is least
                    (Greensmith, Bartlett and Baxter 2004, "Variance Reduction Techniques for Gradient Estimates")
    optimal         E[phi_t . g_0 | s_t] / (f_t E[|phi_t|^2 | s_t]), g_0 being g without a baseline: the variance of g is least

Why the last is so: E[phi_u | all before a_u] = 0, so the product of two steps' baseline terms has expectation zero and the
variance is that of g_0 plus sum_t E[f_t^2 |phi_t|^2 b_t^2 - 2 f_t b_t phi_t . g_0], a parabola in each b(t, s). The
step-optimal baseline leaves out how the terms of different steps vary together.

Then rungs of the ladder train on CartPole-v1 with default settings, so all at one learning rate. Results go to
`experiments/results/variance_reduction.json` and `.png`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxrl
from jaxrl.agents import ActorCriticConfig, load_agent
from jaxrl.agents.policy_gradient.episodic import Episodes, policy_loss
from jaxrl.agents.policy_gradient.reinforce import ReinforceConfig, weigh
from jaxrl.analysis import bootstrap_interval
from jaxrl.config import Config
from jaxrl.loop import collect, init_state, iteration_keys, train
from jaxrl.maths import returns
from jaxrl.maths.distributions import Categorical
from jaxrl.records import write_json
from jaxrl.runs.definition import config_values
from jaxrl.types import Agent, Array, ArraySpec, Discrete, Env, Progress, PyTree, Rollout, Spec, episode_end, first_episode_mask

GAE_LAMBDA = 0.95


class MDP(NamedTuple):
    """A finite MDP of at most `horizon` (T) steps, a policy in it and the error of a wrong critic.

    Attributes:
      start: [S] probability of the first state.
      transition: [S, A, S] probability of the next state; what is missing to 1 ends the episode.
      reward, spread: [S, A] a reward is `reward` plus or minus `spread`, with probability 1/2 each.
      logits: [S, A] of the softmax policy.
      value_error: [S] what a wrong critic adds to the value.
    """

    start: np.ndarray
    transition: np.ndarray
    reward: np.ndarray
    spread: np.ndarray
    logits: np.ndarray
    value_error: np.ndarray
    horizon: int
    gamma: float


SMALL_MDP = MDP(
    start=np.array([0.6, 0.3, 0.1]),
    transition=np.array(
        [
            [[0.5, 0.2, 0.1], [0.3, 0.5, 0.1]],
            [[0.2, 0.5, 0.1], [0.0, 0.4, 0.6]],
            [[0.1, 0.1, 0.6], [0.2, 0.2, 0.2]],
        ]
    ),
    reward=np.array([[0.0, 1.0], [1.0, 3.0], [5.0, 4.0]]),
    spread=np.array([[0.5, 1.0], [1.0, 0.5], [0.5, 2.0]]),
    logits=np.array([[0.5, -0.3], [-0.8, 0.4], [0.2, 1.0]]),
    value_error=np.array([-1.5, 2.0, -1.0]),
    horizon=4,
    gamma=0.9,
)
"""Episodes of one to four steps, in states that differ in what they are worth."""


class Estimator(NamedTuple):
    """One estimator of the policy gradient.

    Attributes:
      weight: trajectory, reward_to_go, gae or td; the critic of the last two is `baseline`.
      baseline: none or one of the module's table.
      discounted: weigh step t by gamma^t.
    """

    weight: str
    baseline: str = "none"
    discounted: bool = False

    @property
    def name(self) -> str:
        return f"{self.weight}-{self.baseline}" + "-discounted" * self.discounted


_BASELINES = ("none", "average", "wrong_value", "value", "step_optimal", "optimal")
_STEPWISE = [("reward_to_go", b) for b in _BASELINES] + [(w, b) for b in ("value", "wrong_value") for w in ("gae", "td")]
ESTIMATORS = [Estimator("trajectory", "none"), Estimator("trajectory", "average")]
ESTIMATORS += [Estimator(weight, baseline, discounted) for weight, baseline in _STEPWISE for discounted in (True, False)]


# --- exact, in NumPy ------------------------------------------------------------------------------------------------


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis; of complex numbers too."""
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def state_values(mdp: MDP, logits: np.ndarray) -> np.ndarray:
    """[T + 1, S] V(t, s), the expected discounted rewards from step t on; the last row is zero."""
    values = [np.zeros(len(mdp.start))]
    for _ in range(mdp.horizon):
        action_values = mdp.reward + mdp.gamma * mdp.transition @ values[0]
        values.insert(0, (softmax(logits) * action_values).sum(-1))
    return np.stack(values)


def policy_gradient(mdp: MDP) -> np.ndarray:
    """[S, A] gradient of the expected discounted return with respect to the logits.

    d f / d x = Im f(x + ih) / h, exact to rounding since nothing is subtracted. Squire and Trapp 1998, "Using Complex Variables
    to Estimate Derivatives of Real Functions".
    """
    gradient, step = np.zeros(mdp.logits.shape), 1e-30
    for index in np.ndindex(*gradient.shape):
        logits = mdp.logits.astype(complex)
        logits[index] += 1j * step
        gradient[index] = (mdp.start @ state_values(mdp, logits)[0]).imag / step
    return gradient


class Enumeration(NamedTuple):
    """All N episodes that can happen.

    Attributes:
      prob: [N].
      state, action: [T, N]; 0 after the end.
      reward: [T, N]; 0 after the end.
      counts: [T, N] 1.0 up to the end, then 0.0.
      score: [T, N, S, A] phi_t; 0 after the end.
    """

    prob: np.ndarray
    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    counts: np.ndarray
    score: np.ndarray


def enumerate_episodes(mdp: MDP) -> Enumeration:
    """All episodes, step by step as the MDP makes them."""
    paths = [(start * prob, steps) for s, start in enumerate(mdp.start) for prob, steps in _paths(mdp, 0, s)]
    rows = np.array([steps + [(-1, 0, 0.0)] * (mdp.horizon - len(steps)) for _, steps in paths])
    counts = (rows[..., 0] >= 0).astype(float).T
    state, action = np.maximum(rows[..., 0], 0).astype(int).T, rows[..., 1].astype(int).T
    num_states, num_actions = mdp.logits.shape
    surprise = np.eye(num_actions)[action] - softmax(mdp.logits)[state]
    score = np.eye(num_states)[state][..., None] * surprise[..., None, :] * counts[..., None, None]
    return Enumeration(np.array([prob for prob, _ in paths]), state, action, rows[..., 2].T, counts, score)


def _paths(mdp: MDP, time: int, state: int) -> Iterator[tuple[float, list[tuple[int, int, float]]]]:
    """From a state on, the probability of each rest of an episode and the (state, action, reward) of its steps."""
    policy = softmax(mdp.logits)
    for action, sign in np.ndindex(mdp.logits.shape[1], 2):
        prob = policy[state, action] / 2
        step = (state, action, mdp.reward[state, action] + (2 * sign - 1) * mdp.spread[state, action])
        onward = mdp.transition[state, action] * (time + 1 < mdp.horizon)
        if onward.sum() < 1.0 - 1e-12:
            yield prob * (1.0 - onward.sum()), [step]
        for successor in map(int, np.flatnonzero(onward)):
            for prob_rest, rest in _paths(mdp, time + 1, successor):
                yield prob * onward[successor] * prob_rest, [step, *rest]


class Exact(NamedTuple):
    """What an estimator gives of one episode.

    Attributes:
      mean: [S, A] its expectation.
      deviation: [S, A] standard deviation of each component.
      variance: trace of the covariance.
      square_deviation: standard deviation of the squared distance to `mean`, whose expectation is `variance`.
      step_variance: sum over t of the trace of the covariance of the term of step t by itself.
    """

    mean: np.ndarray
    deviation: np.ndarray
    variance: float
    square_deviation: float
    step_variance: float


def exact(mdp: MDP, episodes: Enumeration, estimator: Estimator, baseline: np.ndarray) -> Exact:
    """Expectation and variance over all episodes.

    Args:
      baseline: [T + 1, S] of `baseline_table`, or any other.
    """
    prob = episodes.prob
    weight = _weights(mdp, episodes, estimator, baseline)
    terms = (_factors(mdp, estimator)[:, None] * weight)[..., None, None] * episodes.score
    estimate = terms.sum(0)
    mean = np.einsum("n,nsa->sa", prob, estimate)
    squares = np.square(estimate - mean)
    distance = squares.sum((1, 2))
    variance = prob @ distance
    step_means = np.einsum("n,tnsa->tsa", prob, terms)
    return Exact(
        mean,
        np.sqrt(np.einsum("n,nsa->sa", prob, squares)),
        float(variance),
        float(np.sqrt(prob @ np.square(distance - variance))),
        float(np.einsum("n,tnsa->", prob, np.square(terms)) - np.square(step_means).sum()),
    )


def _factors(mdp: MDP, estimator: Estimator) -> np.ndarray:
    """[T] f_t."""
    return mdp.gamma ** np.arange(mdp.horizon) if estimator.discounted else np.ones(mdp.horizon)


def _weights(mdp: MDP, episodes: Enumeration, estimator: Estimator, baseline: np.ndarray) -> np.ndarray:
    """[T, N] w_t - b_t, as sums over the steps to come."""
    own = np.stack([baseline[t, episodes.state[t]] for t in range(mdp.horizon)]) * episodes.counts
    if estimator.weight == "trajectory":
        return _discounted_sums(episodes.reward, mdp.gamma)[:1] - own
    if estimator.weight == "reward_to_go":
        return _discounted_sums(episodes.reward, mdp.gamma) - own
    successor = np.concatenate([own[1:], np.zeros_like(own[:1])])
    errors = episodes.reward + mdp.gamma * successor - own
    return errors if estimator.weight == "td" else _discounted_sums(errors, mdp.gamma * GAE_LAMBDA)


def _discounted_sums(x: np.ndarray, factor: float) -> np.ndarray:
    """[T, N] sum_{k >= t} factor^(k - t) x_k."""
    steps = np.arange(len(x))
    ahead = steps[None, :] - steps[:, None]
    return np.where(ahead >= 0, factor ** np.maximum(ahead, 0), 0.0) @ x


def baseline_table(mdp: MDP, episodes: Enumeration, estimator: Estimator) -> np.ndarray:
    """[T + 1, S] b(t, s), by the module's table; where a state cannot be met, zero or anything."""
    values = state_values(mdp, mdp.logits)
    none = np.zeros_like(values)
    if estimator.baseline == "none":
        return none
    if estimator.baseline in ("value", "wrong_value"):
        # An error in the last row too, where the episode has ended: nothing may bootstrap from it.
        return values + mdp.value_error * (estimator.baseline == "wrong_value")
    weight, counts = _weights(mdp, episodes, estimator, none), episodes.counts
    if estimator.baseline == "average":
        return np.full_like(none, np.sum(episodes.prob * counts * weight) / np.sum(episodes.prob * counts))
    met = np.eye(len(mdp.start))[episodes.state] * (episodes.prob * counts)[..., None]
    factors, size = _factors(mdp, estimator)[:, None], np.square(episodes.score).sum((2, 3))
    if estimator.baseline == "step_optimal":
        along = size * weight
    else:
        whole = np.einsum("tn,tnsa->nsa", factors * weight, episodes.score)
        along = np.einsum("tnsa,nsa->tn", episodes.score, whole) / factors
    wanted, scale = np.einsum("tns,tn->ts", met, along), np.einsum("tns,tn->ts", met, size)
    return np.concatenate([np.divide(wanted, scale, out=none[:-1].copy(), where=scale > 0), none[-1:]])


# --- sampled, with jaxrl's code -------------------------------------------------------------------------------------


def make_env(mdp: MDP, num_envs: int) -> Env:
    """B of these MDPs; an observation is (t, s)."""
    params = {"start": mdp.start, "transition": mdp.transition, "reward": mdp.reward, "spread": mdp.spread}
    params = {name: np.asarray(value, np.float32) for name, value in params.items()}
    num_states, num_actions = mdp.logits.shape

    def reset(key: Array, params: PyTree) -> tuple[Array, Array]:
        state = jax.random.categorical(key, jnp.log(params["start"]))
        obs = jnp.array([0, state], jnp.int32)
        return obs, obs

    def step(key: Array, params: PyTree, state: Array, action: Array) -> jaxrl.Transition:
        key_reward, key_next = jax.random.split(key)
        place = state[1], action
        reward = params["reward"][place] + params["spread"][place] * jax.random.rademacher(key_reward, ())
        onward = params["transition"][place]
        successor = jax.random.categorical(key_next, jnp.log(jnp.append(onward, jnp.maximum(1.0 - jnp.sum(onward), 0.0))))
        terminated = (successor == num_states) | (state[0] + 1 == mdp.horizon)
        obs = jnp.array([state[0] + 1, jnp.minimum(successor, num_states - 1)], jnp.int32)
        return jaxrl.Transition(obs, obs, reward, terminated)

    spec = Spec(ArraySpec((2,), "int32"), Discrete(num_actions), mdp.horizon)
    return jaxrl.batch_env(spec, params, reset, step, num_envs)


class TableState(NamedTuple):
    """State of an agent that does not learn; `policy` holds its logits [S, A]."""

    policy: Array


def sample(key: Array, mdp: MDP, num_episodes: int) -> Rollout:
    """[T, B] steps of B environments; the first episode of each column is whole, and others may follow it."""

    def act(key: Array, logits: Array, memory: PyTree, obs: Array, progress: Progress, explore: bool) -> tuple:
        return Categorical(logits[obs[:, 1]]).sample(key), memory, ()

    def update(key: Array, state: TableState, rollout: Rollout, progress: Progress) -> tuple[TableState, dict[str, Array]]:
        return state, {}

    logits = jnp.asarray(mdp.logits, jnp.float32)
    agent = Agent(init=lambda key: TableState(logits), act=act, update=update, fresh_episodes=True)
    env = make_env(mdp, num_episodes)
    key_init, key_train = jax.random.split(key)
    state, progress = init_state(key_init, agent, env), Progress(*(jnp.int32(count) for count in (0, 1, 0, 1)))
    return collect(iteration_keys(key_train, 0, mdp.horizon), agent, env, state, progress)[1]


def weights(mdp: MDP, rollout: Rollout, estimator: Estimator, baseline: Array) -> Array:
    """[T, B] what weighs the actions, by jaxrl's agents; `gae` and `td` times gamma^t by this experiment."""
    ended = episode_end(rollout)
    counts = first_episode_mask(ended).astype(jnp.float32)
    discount = mdp.gamma * (1.0 - rollout.terminated)
    value, next_value = (baseline[obs[..., 0], obs[..., 1]] for obs in (rollout.obs, rollout.next_obs))
    if estimator.weight in ("gae", "td"):
        lambda_ = GAE_LAMBDA if estimator.weight == "gae" else 0.0
        advantage = returns.gae(rollout.reward, discount, value, next_value, ended, lambda_)
        return advantage * returns.discount_powers(mdp.gamma, ended) if estimator.discounted else advantage
    kind = estimator.baseline if estimator.baseline in ("none", "average") else "value"
    config = ReinforceConfig(estimator=estimator.weight, baseline=kind, discounted=estimator.discounted, gamma=mdp.gamma)
    return weigh(config, Episodes(rollout.reward, discount, ended, value, next_value, counts, baseline[0, 0])).weight


def estimates(mdp: MDP, rollout: Rollout, weight: Array) -> Array:
    """[B, S, A] the gradient of each episode, through jaxrl's loss.

    Args:
      weight: [T, B] of `weights`.
    """
    counts = first_episode_mask(episode_end(rollout)).astype(jnp.float32)

    def loss(logits: Array, state: Array, action: Array, weight: Array, counts: Array) -> Array:
        log_prob = Categorical(logits[state]).log_prob(action)
        return policy_loss(log_prob[:, None], weight[:, None], counts[:, None])

    logits = jnp.asarray(mdp.logits, jnp.float32)
    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 1, 1, 1, 1))
    return -gradients(logits, rollout.obs[..., 1], rollout.action, weight, counts)


class Sampled(NamedTuple):
    """What sampled episodes gave.

    Attributes:
      mean: [S, A] of the estimates.
      square: mean squared distance of the estimates to their exact expectation.
    """

    mean: np.ndarray
    square: float


def monte_carlo(
    key: Array, mdp: MDP, exacts: dict[Estimator, Exact], tables: dict[Estimator, np.ndarray], num_batches: int, batch: int
) -> dict[Estimator, Sampled]:
    """Every estimator on the same `num_batches * batch` episodes, summed in float64."""

    @jax.jit
    def one_batch(key: Array) -> tuple[Rollout, list[Array]]:
        rollout = sample(key, mdp, batch)
        return rollout, [weights(mdp, rollout, e, jnp.asarray(table, jnp.float32)) for e, table in tables.items()]

    per_episode = jax.jit(lambda rollout, weight: estimates(mdp, rollout, weight))
    sums = {e: np.zeros_like(mdp.logits) for e in tables}
    squares = dict.fromkeys(tables, 0.0)
    for index in range(num_batches):
        rollout, weighed = one_batch(jax.random.fold_in(key, index))
        for estimator, weight in zip(tables, weighed, strict=True):
            found = np.asarray(per_episode(rollout, weight), float)
            sums[estimator] += found.sum(0)
            squares[estimator] += np.square(found - exacts[estimator].mean).sum()
    total = num_batches * batch
    return {e: Sampled(sums[e] / total, float(squares[e] / total)) for e in tables}


class Scores(NamedTuple):
    """How many standard errors the sampled numbers lie from the exact ones."""

    mean: float
    variance: float


def z_scores(found: Sampled, expected: Exact, num_episodes: int) -> Scores:
    """Of the component of the mean that lies farthest off, and of the variance."""
    root = np.sqrt(num_episodes)
    z_mean = root * (found.mean - expected.mean) / expected.deviation
    return Scores(float(np.abs(z_mean).max()), float(root * (found.square - expected.variance) / expected.square_deviation))


def measure(key: Array, mdp: MDP, num_batches: int, batch: int) -> list[dict[str, Any]]:
    """One row of numbers for each estimator."""
    episodes, gradient, total = enumerate_episodes(mdp), policy_gradient(mdp), num_batches * batch
    tables = {e: baseline_table(mdp, episodes, e) for e in ESTIMATORS}
    exacts = {e: exact(mdp, episodes, e, tables[e]) for e in ESTIMATORS}
    sampled = monte_carlo(key, mdp, exacts, tables, num_batches, batch)
    rows = []
    for estimator in ESTIMATORS:
        expected, found = exacts[estimator], sampled[estimator]
        scores = z_scores(found, expected, total)
        bias = float(np.linalg.norm(expected.mean - gradient))
        rows.append(
            {
                "estimator": estimator.name,
                "bias": bias,
                "relative_bias": bias / float(np.linalg.norm(gradient)),
                "bias_monte_carlo": float(np.linalg.norm(found.mean - gradient)),
                "standard_error": float(np.sqrt(expected.variance / total)),
                "variance": expected.variance,
                "variance_monte_carlo": found.square - float(np.square(found.mean - expected.mean).sum()),
                "step_variance": expected.step_variance,
                "max_abs_z_of_mean": scores.mean,
                "z_of_variance": scores.variance,
            }
        )
    return rows


# --- learning on CartPole -------------------------------------------------------------------------------------------

RUNGS: dict[str, tuple[str, Config]] = {
    "whole return": ("reinforce", ReinforceConfig(estimator="trajectory", baseline="none")),
    "reward-to-go": ("reinforce", ReinforceConfig(baseline="none")),
    "reward-to-go, average": ("reinforce", ReinforceConfig(baseline="average")),
    "reward-to-go, value": ("reinforce", ReinforceConfig(baseline="value")),
    "actor-critic, GAE": ("actor_critic", ActorCriticConfig(advantage="gae", gae_lambda=GAE_LAMBDA)),
}


class Curves(NamedTuple):
    """Training return of several seeds.

    Attributes:
      env_steps: [R].
      returns: [seeds, R] mean return of the episodes of each stretch of training.
    """

    env_steps: np.ndarray
    returns: np.ndarray


def learn(agent: str, config: Config, num_seeds: int, total_steps: int) -> Curves:
    """All seeds in one compiled program."""
    make_agent, _ = load_agent(agent)
    env = jaxrl.make("CartPole-v1", config.num_envs)
    assert isinstance(env, Env)
    keys = jnp.stack([jax.random.key(seed) for seed in range(num_seeds)])
    run = jax.jit(jax.vmap(lambda key: train(key, config, make_agent, env, total_steps, num_rows=50).rows))
    rows = jax.device_get(run(keys))
    return Curves(rows["env_steps"][0], rows["return_mean"])


def curve_scores(curves: Curves) -> dict[str, Any]:
    """Return over all of training and over its last tenth, of every seed."""
    tenth = max(len(curves.env_steps) // 10, 1)
    result = {}
    for name, values in (("all_of_training", curves.returns.mean(1)), ("last_tenth", curves.returns[:, -tenth:].mean(1))):
        low, high = bootstrap_interval(values)
        result[name] = {"mean": float(values.mean()), "interval_95": [float(low), float(high)], "seeds": values.tolist()}
    return result


# --- figure and tables ----------------------------------------------------------------------------------------------

_WEIGHTS = {"trajectory": "whole return", "reward_to_go": "reward-to-go", "gae": f"GAE({GAE_LAMBDA})", "td": "TD"}
_SUFFIXES = {
    "none": "",
    "average": ", average",
    "wrong_value": ", wrong value",
    "value": ", exact value",
    "step_optimal": ", step-optimal",
    "optimal": ", optimal",
}


def label(estimator: Estimator) -> str:
    """Its name in tables and figures, without gamma^t."""
    return _WEIGHTS[estimator.weight] + _SUFFIXES[estimator.baseline]


def draw(rows: list[dict[str, Any]], curves: dict[str, Curves], out: Path) -> None:
    """Left the variance of each estimator with its bias, right the learning curves."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(13.0, 5.6), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    _draw_variances(left, rows)
    _draw_curves(right, curves)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=130)


def _draw_variances(axes: Any, rows: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    places = {name: -i for i, name in enumerate(dict.fromkeys(label(e) for e in ESTIMATORS))}
    for discounted, shift, color, factor in ((False, 0.2, "#45556b", "1"), (True, -0.2, "#a9bad0", r"\gamma^t")):
        shown = [(places[label(e)] + shift, row) for e, row in zip(ESTIMATORS, rows, strict=True) if e.discounted == discounted]
        axes.barh(*zip(*((y, row["variance"]) for y, row in shown), strict=True), 0.38, color=color, label=f"$f_t = {factor}$")
        for y, row in shown:
            text = f"bias {row['relative_bias']:.0%}" if row["relative_bias"] > 1e-9 else "no bias"
            axes.annotate(text, (row["variance"], y), (4, 0), textcoords="offset points", va="center", fontsize="x-small")
    axes.set_yticks(list(places.values()), list(places))
    axes.set_ylim(min(places.values()) - 0.6, 0.6)
    axes.set_xscale("log")
    axes.set_xlim(0.7 * min(row["variance"] for row in rows), 2.0 * max(row["variance"] for row in rows))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("variance of the gradient estimate of one episode")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize="small")


def _draw_curves(axes: Any, curves: dict[str, Curves]) -> None:
    from matplotlib.ticker import EngFormatter

    for index, (name, (env_steps, values)) in enumerate(curves.items()):
        axes.fill_between(env_steps, *bootstrap_interval(values), color=f"C{index}", alpha=0.18, lw=0)
        axes.plot(env_steps, values.mean(0), color=f"C{index}", lw=2.0, label=name)
    axes.set_xlabel("env steps")
    axes.set_ylabel("training return on CartPole-v1")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize="small")


def print_tables(rows: list[dict[str, Any]], scores: dict[str, Any]) -> None:
    """Both tables, on standard output."""
    table = Table("estimator", "gamma^t", "bias", "relative", "sampled", "variance", "sampled", "max |z|", "z of variance")
    for estimator, row in zip(ESTIMATORS, rows, strict=True):
        numbers = [row["bias"], row["relative_bias"], row["bias_monte_carlo"], row["variance"], row["variance_monte_carlo"]]
        z = f"{row['max_abs_z_of_mean']:.2f}", f"{row['z_of_variance']:+.2f}"
        table.add_row(label(estimator), "yes" if estimator.discounted else "", *(f"{x:.3f}" for x in numbers), *z)
    learned = Table("rung", "return over all of training", "over its last tenth")
    for name, row in scores.items():
        learned.add_row(name, *(_interval(row[part]) for part in ("all_of_training", "last_tenth")))
    console = Console(width=128)
    console.print(table, learned)


def _interval(score: dict[str, Any]) -> str:
    low, high = score["interval_95"]
    return f"{score['mean']:.1f} \\[{low:.1f}, {high:.1f}]"


# --- the command ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Options:
    """How much to sample and to train, and where results go."""

    episodes: int = 200_000
    """Sampled episodes of the small MDP, rounded up to whole batches."""
    batch: int = 20_000
    """Episodes sampled at a time."""
    seed: int = 0
    """Of the sampled episodes."""
    seeds: int = 10
    """Runs of each rung on CartPole, seeds 0 to this less 1."""
    total_steps: int = 500_000
    """Env steps of a run."""
    results: Path = Path("experiments/results")


def main(options: Options) -> None:
    """Measures, trains, writes and prints."""
    for name in ("episodes", "batch", "seeds", "total_steps"):
        if getattr(options, name) < 1:
            raise SystemExit(f"{name}={getattr(options, name)} is out of range; give at least 1")
    num_batches = -(-options.episodes // options.batch)
    rows = measure(jax.random.key(options.seed), SMALL_MDP, num_batches, options.batch)
    curves = {name: learn(*rung, options.seeds, options.total_steps) for name, rung in RUNGS.items()}
    scores = {name: curve_scores(curve) for name, curve in curves.items()}
    runs = {name: config_values(jaxrl.Run(agent, "CartPole-v1", config)) for name, (agent, config) in RUNGS.items()}
    about = next(iter(runs.values()))
    result = {
        "command": "python experiments/variance_reduction.py",
        "mdp": {name: np.asarray(value).tolist() for name, value in SMALL_MDP._asdict().items()},
        "policy_gradient": policy_gradient(SMALL_MDP).tolist(),
        "sampled_episodes": num_batches * options.batch,
        "sampling_seed": options.seed,
        "estimators": rows,
        "env": "CartPole-v1",
        "env_steps": int(next(iter(curves.values())).env_steps[-1]),
        "seeds": list(range(options.seeds)),
        "interval": "percentile bootstrap over seeds",
        "learning": {name: {"agent": run["agent"], **scores[name], "config": run["config"]} for name, run in runs.items()},
        "versions": about["versions"],
        "device": about["device"],
    }
    options.results.mkdir(parents=True, exist_ok=True)
    write_json(options.results / "variance_reduction.json", result)
    draw(rows, curves, options.results / "variance_reduction.png")
    print_tables(rows, scores)


if __name__ == "__main__":
    os.environ.setdefault("NPROC", "1")  # Small networks run fastest with one CPU thread; JAX reads this when it starts.
    main(tyro.cli(Options, description=__doc__))
