"""Finite Markov decision processes, solved exactly.

from jaxrl.mdp import garnet, value_iteration
solution = value_iteration(garnet(jax.random.key(0), num_states=10, num_actions=3, num_successors=2, discount=0.9))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxrl import lazy

if TYPE_CHECKING:
    from jaxrl.mdp.ends import can_terminate as can_terminate
    from jaxrl.mdp.ends import check_solvable as check_solvable
    from jaxrl.mdp.ends import greedy_policy as greedy_policy
    from jaxrl.mdp.ends import has_proper_policy as has_proper_policy
    from jaxrl.mdp.model import MDP as MDP
    from jaxrl.mdp.model import garnet as garnet
    from jaxrl.mdp.model import make_mdp as make_mdp
    from jaxrl.mdp.solvers import Solution as Solution
    from jaxrl.mdp.solvers import action_gaps as action_gaps
    from jaxrl.mdp.solvers import occupancy as occupancy
    from jaxrl.mdp.solvers import policy_evaluation as policy_evaluation
    from jaxrl.mdp.solvers import policy_iteration as policy_iteration
    from jaxrl.mdp.solvers import q_values as q_values
    from jaxrl.mdp.solvers import softmax_policy_gradient as softmax_policy_gradient
    from jaxrl.mdp.solvers import start_value as start_value
    from jaxrl.mdp.solvers import uniform_policy as uniform_policy
    from jaxrl.mdp.solvers import value_iteration as value_iteration

__getattr__, __dir__, __all__ = lazy.exports(__name__, __file__)
