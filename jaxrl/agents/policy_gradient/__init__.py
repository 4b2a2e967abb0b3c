"""Agents that follow the gradient of a policy: REINFORCE, actor-critic, A2C, PPO."""
