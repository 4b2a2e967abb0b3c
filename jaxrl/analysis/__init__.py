"""What is made of finished runs: statistics, curves, comparisons, reports. Starts no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxrl import lazy

if TYPE_CHECKING:
    from jaxrl.analysis.curves import plot_runs as plot_runs
    from jaxrl.analysis.mdp_plot import draw_maze as draw_maze
    from jaxrl.analysis.mdp_plot import greedy_actions as greedy_actions
    from jaxrl.analysis.results import read_results as read_results
    from jaxrl.analysis.stats import bootstrap_interval as bootstrap_interval
    from jaxrl.analysis.stats import interquartile_mean as interquartile_mean

__getattr__, __dir__, __all__ = lazy.exports(__name__, __file__)
