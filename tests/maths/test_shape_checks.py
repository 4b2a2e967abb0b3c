"""Shapes and dtypes that JAX would broadcast or cast without a word: each stops the call, which names the argument.

Nothing is compiled: functions are traced with shapes alone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from helpers import progress_at
from jaxrl.maths import exploration, losses, minibatches, normalize, optimizer, returns, schedules
from jaxrl.maths.distributions import Categorical, Gaussian, TanhGaussian, from_parameters
from jaxrl.nets.inputs import flatten, network_inputs
from jaxrl.replay import ring as replay
from jaxrl.types import ArraySpec, Box, Discrete

T, B, N, A = 5, 3, 4, 6


class Mixed(NamedTuple):
    """A mixed action, and its specs."""

    choice: object
    push: object


MIXED = Mixed(Discrete(3), Box((2,)))


def f(*shape):
    """A float array to trace with."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def b(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


def u8(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.uint8)


def rollout(names, **others):
    """Arrays [T, B], but for the `others`."""
    return {name: b(T, B) if name == "ended" else f(T, B) for name in names.split()} | others


FOUR = "reward discount next_value ended"
FIVE = f"{FOUR} value"
SIX = f"{FIVE} log_rho"


def n_step_returns(**arrays):
    return returns.n_step_returns(**arrays, n=2)


def recurrence(factor, own):
    return returns.recurrence(factor, own, reverse=False)


def epsilon_greedy(preferences, epsilon):
    return exploration.epsilon_greedy(jax.random.key(0), preferences, epsilon)


def until_target(approx_kl):
    run = minibatches.until_target(lambda carry, batch: (carry, {"approx_kl": batch}), 0.1)
    return run((jnp.zeros(()), jnp.bool_(False)), approx_kl)


def of_progress(schedule):
    """`schedule` at iteration 3 of 10."""
    return lambda *arrays: schedule(progress_at(3, 10), *arrays)


def fraction_done(iteration):
    return schedules.fraction_done(progress_at(0, 10)._replace(iteration=iteration))


def with_moments(function):
    return lambda mean, variance, x: function(normalize.Moments(mean, variance, jnp.float32(9.0)), x)


def scale_rewards(running, reward, ended, gamma):
    return normalize.scale_rewards(normalize.RewardScale(running, normalize.init_moments(())), reward, ended, gamma)


def adam_step(params, grads, learning_rate):
    return optimizer.step(params, grads, optimizer.init(params), learning_rate)


def gaussian(mean, log_std):
    return Gaussian(mean, log_std)


def squashed(mean, log_std):
    return TanhGaussian(Gaussian(mean, log_std))


def log_prob(kind):
    return lambda *arrays: kind(*arrays[:-1]).log_prob(arrays[-1])


def entropy(kind):
    return lambda *arrays: kind(*arrays).entropy()


def kl(kind):
    """From the first half of the arrays to the second."""
    return lambda *arrays: kind(*arrays[: len(arrays) // 2]).kl(kind(*arrays[len(arrays) // 2 :]))


def joint_log_prob(choice, push):
    return from_parameters(MIXED, jnp.zeros((N, 5)), jnp.zeros(2)).log_prob(Mixed(choice, push))


def parameters_of(action):
    return lambda parameters, log_std: from_parameters(action, parameters, log_std).entropy()


def seen(spec, torso=None):
    return lambda obs: flatten(obs, spec) if torso is None else network_inputs(obs, spec, torso)


def add(capacity):
    def call(**rows):
        return replay.add(replay.init({"obs": f(3), "reward": f()}, capacity), rows)

    return call


def shown(shape):
    return f"({', '.join('...' if length is ... else str(length) for length in shape)})"


def shape(argument, found, expected):
    """Parts of the complaint about a shape."""
    return f"has shape {found} but expected {shown(expected)}", f"'{argument}': {found}"


def dtype(argument, found, expected):
    """Parts of the complaint about a dtype."""
    return f"has type {found} but expected {expected}", f"[argument: {argument}]"


def leaf(path, expected, found, trees):
    """Parts of the complaint about a leaf of a tree."""
    return f"leaves '{path}': shapes: {expected} != {found}", f"[tree 0: {trees[0]}, tree 1: {trees[1]}]"


NO_BOOL = dtype("ended", "float32", "bool")
ADDED = "what the ring takes", "transitions"
NO_FLOAT, NO_INT = "<class 'float'>", "<class 'int'>"

WRONG = {
    "lambda_returns: reward [T, 1]": (
        returns.lambda_returns,
        rollout(FOUR, reward=f(T, 1)),
        ("expected (5, 1)", "'reward': (5, 1), 'ended': (5, 3)"),
    ),
    "lambda_returns: lambda [B]": (returns.lambda_returns, rollout(FOUR, lambda_=f(B)), shape("lambda_", (B,), (T, B))),
    "reward_to_go: next_value [1, B]": (
        returns.reward_to_go,
        rollout(FOUR, next_value=f(1, B)),
        shape("next_value", (1, B), (T, B)),
    ),
    "episode_returns: discount []": (returns.episode_returns, rollout(FOUR, discount=f()), shape("discount", (), (T, B))),
    "discount_powers: gamma [B]": (returns.discount_powers, rollout("ended", gamma=f(B)), shape("gamma", (B,), ())),
    "discount_powers: float ended": (returns.discount_powers, {"gamma": f(), "ended": f(T, B)}, NO_BOOL),
    "n_step_returns: next_value [T, 1]": (
        n_step_returns,
        rollout(FOUR, next_value=f(T, 1)),
        shape("next_value", (T, 1), (T, B)),
    ),
    "gae: value [T, 1]": (returns.gae, rollout(FIVE, value=f(T, 1)), shape("value", (T, 1), (T, B))),
    "gae: terminated for the discount": (
        returns.gae,
        rollout(FIVE, discount=b(T, B)),
        dtype("discount", "bool", NO_FLOAT),
    ),
    "gae: ended and next_value exchanged": (returns.gae, rollout(FIVE, ended=f(T, B), next_value=b(T, B)), NO_BOOL),
    "vtrace: log_rho [T, 1]": (returns.vtrace, rollout(SIX, log_rho=f(T, 1)), shape("log_rho", (T, 1), (T, B))),
    "vtrace: clip_c [B]": (returns.vtrace, rollout(SIX, clip_c=f(B)), shape("clip_c", (B,), ())),
    "recurrence: factor [B]": (recurrence, (f(B), f(T, B)), shape("factor", (B,), (T, B))),
    "q_learning_target: reward [N, 1]": (losses.q_learning_target, (f(N, 1), f(N), f(N, A)), shape("r_t", (N, 1), (N,))),
    "q_learning_target: selector of other actions": (
        losses.q_learning_target,
        (f(N), f(N), f(N, A), f(N, A + 1)),
        shape("q_t_selector", (N, A + 1), (N, A)),
    ),
    "select: action [N, 1]": (losses.select, (f(N, A), i(N, 1)), shape("action", (N, 1), (N,))),
    "select: float action": (losses.select, (f(N, A), f(N)), dtype("action", "float32", NO_INT)),
    "squared: bytes": (losses.squared, (u8(N),), dtype("td_error", "uint8", NO_FLOAT)),
    "huber: delta [N, 1]": (losses.huber, (f(N), f(N, 1)), shape("delta", (N, 1), ())),
    "huber: bytes": (losses.huber, (u8(N),), dtype("td_error", "uint8", NO_FLOAT)),
    "policy_gradient: advantage [N, 1]": (losses.policy_gradient, (f(N), f(N, 1)), shape("advantage", (N, 1), (N,))),
    "probability_ratio: old [N, 1]": (losses.probability_ratio, (f(N), f(N, 1)), shape("old_log_prob", (N, 1), (N,))),
    "clipped_surrogate: advantage [N, 1]": (
        losses.clipped_surrogate,
        (f(N), f(N, 1), f()),
        shape("advantage", (N, 1), (N,)),
    ),
    "clipped_surrogate: clip [N, 1]": (losses.clipped_surrogate, (f(N), f(N), f(N, 1)), shape("clip", (N, 1), ())),
    "clipped_value: target [N, 1]": (losses.clipped_value, (f(N), f(N), f(N, 1), f()), shape("target", (N, 1), (N,))),
    "Categorical.log_prob: action [N, 1]": (
        log_prob(Categorical),
        (f(N, A), i(N, 1)),
        shape("action", (N, 1), (N,)),
    ),
    "Categorical.log_prob: float action": (log_prob(Categorical), (f(N, A), f(N)), dtype("action", "float32", NO_INT)),
    "Categorical.kl: [1, A]": (kl(Categorical), (f(N, A), f(1, A)), shape("other_logits", (1, A), (N, A))),
    "Gaussian.log_prob: action [N, 1]": (log_prob(gaussian), (f(N, 2), f(2), f(N, 1)), shape("action", (N, 1), (N, 2))),
    "Gaussian.entropy: log_std [1]": (entropy(gaussian), (f(N, 2), f(1)), shape("log_std", (1,), (2,))),
    "Gaussian.kl: mean [1, D]": (kl(gaussian), (f(N, 2), f(2), f(1, 2), f(2)), shape("other_mean", (1, 2), (N, 2))),
    "TanhGaussian.log_prob: one action of one component": (
        log_prob(squashed),
        (f(2), f(2), f(1)),
        shape("action", (1,), (..., 2)),
    ),
    "TanhGaussian.entropy: log_std [N, 1]": (entropy(squashed), (f(N, 2), f(N, 1)), shape("log_std", (N, 1), (N, 2))),
    "Joint.log_prob: push [N, 1]": (joint_log_prob, (i(N), f(N, 1)), shape("action", (N, 1), (N, 2))),
    "from_parameters: too many logits": (
        parameters_of(Discrete(3)),
        (f(N, A), f(0)),
        shape("parameters", (N, A), (..., 3)),
    ),
    "from_parameters: too many deviations": (parameters_of(MIXED), (f(N, 5), f(4)), shape("log_std", (4,), (2,))),
    "epsilon_greedy: epsilon [N, 1]": (epsilon_greedy, (f(N, A), f(N, 1)), shape("epsilon", (N, 1), (N,))),
    "fraction_done: iteration [2]": (fraction_done, (i(2),), shape("iteration", (2,), ())),
    "linear: start [2]": (of_progress(schedules.linear), (f(2), f()), shape("start", (2,), ())),
    "cosine: end [2]": (of_progress(schedules.cosine), (f(), f(2)), shape("end", (2,), ())),
    "is_due: float period": (of_progress(schedules.is_due), (f(),), dtype("every", "float32", NO_INT)),
    "update_moments: batch [N, 1]": (
        with_moments(normalize.update_moments),
        (f(A), f(A), f(N, 1)),
        shape("batch", (N, 1), (..., A)),
    ),
    "normalize: x [N, 1]": (with_moments(normalize.normalize), (f(A), f(A), f(N, 1)), shape("x", (N, 1), (..., A))),
    "normalize: variance [1]": (with_moments(normalize.normalize), (f(A), f(1), f(N, A)), shape("variance", (1,), (A,))),
    "scale_rewards: another number of environments": (
        scale_rewards,
        (f(1), f(T, B), b(T, B), f()),
        shape("reward", (T, B), (None, 1)),
    ),
    "scale_rewards: ended of another length": (
        scale_rewards,
        (f(B), f(T, B), b(1, B), f()),
        shape("ended", (1, B), (T, B)),
    ),
    "scale_rewards: float ended": (scale_rewards, (f(B), f(T, B), f(T, B), f()), NO_BOOL),
    "optimizer.step: gradient [3, 1]": (
        adam_step,
        ({"w": f(3)}, {"w": f(3, 1)}, f()),
        leaf("w", (3,), (3, 1), ("params", "grads")),
    ),
    "optimizer.step: learning_rate [3]": (adam_step, ({"w": f(3)}, {"w": f(3)}, f(3)), shape("learning_rate", (3,), ())),
    "weighted_mean: weight [T, 1]": (minibatches.weighted_mean, (f(T, B), f(T, 1)), shape("weight", (T, 1), (T, B))),
    "standardize: weight [B]": (minibatches.standardize, (f(T, B), f(B)), shape("weight", (B,), (T, B))),
    "explained_variance: value [N, 1]": (minibatches.explained_variance, (f(N), f(N, 1)), shape("value", (N, 1), (N,))),
    "until_target: approx_kl [N]": (until_target, (f(N),), shape("approx_kl", (N,), ())),
    "flatten: axes exchanged": (seen(ArraySpec((2, 3), "float32")), (f(N, 3, 2),), shape("obs", (N, 3, 2), (..., 2, 3))),
    "flatten: a vector for a matrix": (seen(ArraySpec((2, 2), "float32")), (f(4),), shape("obs", (4,), (..., 2, 2))),
    "flatten: floats for bytes": (seen(ArraySpec((3,), "uint8", scale=255.0)), (f(N, 3),), dtype("obs", "float32", "uint8")),
    "network_inputs: another size of picture": (
        seen(ArraySpec((36, 36, 4), "uint8", picture="HWC", scale=255.0), "nature"),
        (u8(N, 36, 40, 4),),
        shape("obs", (N, 36, 40, 4), (..., 36, 36, 4)),
    ),
    "replay.add: fewer rewards than observations": (
        add(8),
        {"obs": f(2, 3), "reward": f(1)},
        leaf("reward", (2,), (1,), ADDED),
    ),
    "replay.add: rows shorter than the ring's": (add(8), {"obs": f(2, 2), "reward": f(2)}, leaf("obs", (2, 3), (2, 2), ADDED)),
    "replay.add: rows of length one": (add(8), {"obs": f(3, 1), "reward": f(3)}, leaf("obs", (3, 3), (3, 1), ADDED)),
}
"""A function, arguments of which one is wrong, and parts of the complaint."""

RIGHT = {
    "a lambda of each step": (returns.gae, rollout(FIVE, lambda_=f(T, B))),
    "plain numbers": (lambda **arrays: returns.vtrace(**arrays, lambda_=1, clip_rho=1.5), rollout(SIX)),
    "trailing axes": (returns.reward_to_go, {name: b(T, B, 2) if name == "ended" else f(T, B, 2) for name in FOUR.split()}),
    "no leading axes": (losses.q_learning_target, (f(), f(), f(A), f(A))),
    "leading axes": (losses.select, (f(T, B, A), i(T, B))),
    "unsigned actions": (losses.select, (f(N, A), u8(N))),
    "an epsilon of each row": (epsilon_greedy, (f(N, A), f(N))),
    "many actions of one distribution": (log_prob(squashed), (f(2), f(2), f(T, B, 2))),
    "many actions of one categorical": (log_prob(Categorical), (f(A), i(T, B))),
    "a deviation of each state": (log_prob(gaussian), (f(N, 2), f(N, 2), f(N, 2))),
    "deviations of each state from a network": (parameters_of(MIXED), (f(N, 5), f(N, 2))),
    "a weight of all values": (minibatches.standardize, (f(T, B), f())),
    "samples of scalars": (with_moments(normalize.update_moments), (f(), f(), f(T, B))),
    "members of a population": (
        jax.vmap(lambda arrays, rate: returns.gae(**arrays, lambda_=rate)),
        ({name: b(2, T, B) if name == "ended" else f(2, T, B) for name in FIVE.split()}, f(2)),
    ),
}
"""A function and arguments that its documentation allows."""


def traced(function, arguments):
    return jax.eval_shape(function, **arguments) if isinstance(arguments, dict) else jax.eval_shape(function, *arguments)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_named_with_both_shapes(name):
    function, arguments, complaint = WRONG[name]
    with pytest.raises(AssertionError) as error:
        traced(function, arguments)
    assert all(part in str(error.value) for part in complaint)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_documented_passes(name):
    traced(*RIGHT[name])
