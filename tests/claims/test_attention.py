"""The paper's table beside ours, of made-up results and of those that are committed."""

import dataclasses
import sys
from pathlib import Path

import pytest

from jaxrl.claims import all_claims
from jaxrl.claims.table import read_claims
from jaxrl.errors import UsageError

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import ram  # noqa: E402


def made_up(name, mean, seeds=1):
    return {"claim": dataclasses.asdict(all_claims()[name]), "mean": mean, "num_seeds": seeds, "env_steps": 54_000_000}


def test_a_row_has_both_editions_and_ours_with_its_interval():
    """Of 120 errors in 10,000, Wilson: (0.012 + z^2 / 2n +- z sqrt(0.012 * 0.988 / n + z^2 / 4n^2)) / (1 + z^2 / n)."""
    page = ram.markdown([made_up("ram-mnist-6", 0.988, 3)], {"samples": 10, "errors": {"ram-mnist-6": [0.005, 0.006, 0.007]}})
    row = page.splitlines()[-1]
    assert row == "| `ram-mnist-6` | 6 of 8x8, 1 scales | 1.12 | 1.29 | 1.20 | [1.00, 1.43] | 0.60 | 3 | 150 |"


def test_what_the_sources_do_not_print_is_left_open():
    row = ram.markdown([made_up("ram-mnist-7", 0.99)], {"samples": 0, "errors": {}}).splitlines()[-1]
    assert row.split("|")[3:5] == [" 1.07 ", "  "] and row.split("|")[7] == "  "


def test_nothing_to_tell_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="make one with: jaxrl reproduce ram-mnist-6"):
        ram.table(tmp_path)
    with pytest.raises(UsageError, match="holds no finished run"):
        ram.paths(tmp_path)


def test_the_committed_table_is_what_the_committed_files_say():
    found = [result for result in read_claims(ram.RESULTS) if result["claim"]["group"] == "attention"]
    assert (ram.RESULTS / "ram.md").read_text() == ram.markdown(found, ram.read_paths(ram.RESULTS / ram.PATHS))
