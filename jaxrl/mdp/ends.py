"""Whether and from where an MDP comes to an end, and the greedy policy that does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UsageError
from jaxrl.mdp.model import MDP
from jaxrl.types import Array


def greedy_policy(q: Array) -> Array:
    """[S] int32, the first best action of q [S, A]."""
    return jnp.argmax(q, axis=-1).astype(jnp.int32)


def can_terminate(mdp: MDP, policy: Array | None = None) -> Array:
    """[S] bool, from which states a terminal state can be reached, by whatever actions or by those of a policy.

    Args:
      policy: [S] actions, [S, A] probabilities, or None for any actions.
    """
    num_actions = mdp.successors.shape[1]
    if policy is None:
        allowed = jnp.ones(mdp.successors.shape[:2], bool)
    else:
        allowed = policy > 0 if policy.ndim == 2 else jax.nn.one_hot(policy, num_actions, dtype=bool)
    return reach_terminal(mdp, allowed)[0]


def has_proper_policy(mdp: MDP) -> Array:
    """[] bool, whether some policy ends every episode: whether every state can reach a terminal state.

    It is necessary, as an episode cannot end in a state that is not reached. It suffices, as the policy that follows a shortest
    path has from every state a chance of at least some c > 0 to end within S steps, so it goes on for n S steps with
    probability (1 - c)^n at most. Then its returns without discount are finite; otherwise no policy's are, in general.

    Source: Bertsekas & Tsitsiklis 1991.
    """
    return jnp.all(can_terminate(mdp))


def check_solvable(mdp: MDP, policy: Array | None = None) -> None:
    """Checks on the host that the values are finite; every discount below 1 passes.

    Args:
      policy: [S] actions or [S, A] probabilities to be evaluated; None asks for optimal values.

    Raises:
      UsageError: gamma = 1 and some state cannot reach a terminal state, or does not under this policy.
    """
    if float(mdp.discount) < 1.0:
        return
    stuck = ~np.asarray(can_terminate(mdp, policy))
    if not stuck.any():
        return
    state, whose = int(np.argmax(stuck)), "" if policy is None else " under this policy"
    raise UsageError(
        f"discount=1 needs a terminal state in reach from every state, and state {state} reaches none{whose}; "
        "give a discount below 1" + (" or mark terminal states" if policy is None else " or another policy")
    )


def reach_terminal(mdp: MDP, allowed: Array) -> tuple[Array, Array]:
    """Backward search from the terminal states through the allowed [S, A] actions.

    Returns:
      [S] bool, the states that reach a terminal one, and [S] int32, the first action on a path of fewest transitions.
    """
    possible = allowed[..., None] & (mdp.probabilities > 0)

    def extend(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        reached, action, _ = carry
        leads = jnp.any(possible & reached[mdp.successors], axis=-1)
        new = jnp.any(leads, axis=-1) & ~reached
        return reached | new, jnp.where(new, greedy_policy(leads), action), jnp.any(new)

    first = (mdp.terminal, jnp.zeros(mdp.terminal.shape, jnp.int32), jnp.bool_(True))
    reached, action, _ = jax.lax.while_loop(lambda carry: carry[2], extend, first)
    return reached, action
