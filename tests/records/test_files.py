"""Tables as files."""

import csv

import pytest

from jaxrl.records.files import from_cell, write_csv

TEXTS = ["=1+1", "@SUM(A1)", "+cmd", "-2+3", "\t=1", "'=1", "'", "-", '=HYPERLINK("x")']
NUMBERS = ["-1", "+1.5", "-1e-05", "-1x2x-3", "-.5"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_a_spreadsheet_would_run_is_marked_and_read_as_it_was(text, tmp_path):
    write_csv(tmp_path / "a.csv", ["name"], [[text]])
    _, (cell,) = csv.reader((tmp_path / "a.csv").read_text().splitlines())
    assert cell == f"'{text}" and from_cell(cell) == text


def test_numbers_below_zero_stay_numbers(tmp_path):
    write_csv(tmp_path / "a.csv", ["name"], [[text] for text in NUMBERS])
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == NUMBERS
