"""Exact tables of textbooks: values of grid worlds, against the exact solvers."""

from jaxrl.claims.claim import Table

_BOOK = "Sutton & Barto 2018, "

CLAIMS = (
    Table(
        name="gridworld-figure-3.2",
        env="gridworld/jumps",
        policy="random",
        gamma=0.9,
        values=(
            3.3, 8.8, 4.4, 5.3, 1.5,
            1.5, 3.0, 2.3, 1.9, 0.5,
            0.1, 0.7, 0.7, 0.4, -0.4,
            -1.0, -0.4, -0.4, -0.6, -1.2,
            -1.9, -1.3, -1.2, -1.4, -2.0,
        ),
        tolerance=0.05,
        source=_BOOK + "figure 3.2",
    ),
    Table(
        name="gridworld-figure-3.5",
        env="gridworld/jumps",
        gamma=0.9,
        values=(
            22.0, 24.4, 22.0, 19.4, 17.5,
            19.8, 22.0, 19.8, 17.8, 16.0,
            17.8, 19.8, 17.8, 16.0, 14.4,
            16.0, 17.8, 16.0, 14.4, 13.0,
            14.4, 16.0, 14.4, 13.0, 11.7,
        ),
        tolerance=0.05,
        source=_BOOK + "figure 3.5",
    ),
    Table(
        name="gridworld-figure-4.1",
        env="gridworld/classic",
        policy="random",
        gamma=1.0,
        values=(0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0),
        tolerance=0.5,
        source=_BOOK + "figure 4.1, after infinitely many sweeps",
    ),
    Table(
        name="gridworld-slippery",
        env="gridworld/slippery",
        gamma=1.0,
        values=(0.8516, 0.9078, 0.9578, 0, 0.8016, 0.7003, 0, 0.7453, 0.6953, 0.6514, 0.4279),
        tolerance=0.00005,
        source="Russell & Norvig 2021, Artificial Intelligence, fourth edition, figure 16.3",
        deviations="The two terminal states, where the book prints the reward for entering, are worth 0.",
    ),
)  # fmt: skip
