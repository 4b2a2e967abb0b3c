"""The table of results: written from the JSON files of claims and by nothing else.

write_table(Path("experiments/results"))      # README.md, from *.json there
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxrl.claims.claim import DEVIATIONS
from jaxrl.claims.verdict import NOT_COMPARABLE, SINGLE_RUN, SUCCESSES, UNFINISHED
from jaxrl.errors import UsageError
from jaxrl.records.files import write_csv, write_whole

COLUMNS = ("claim", "verdict", "ours", "95 % interval", "IQM", "seeds", "published", "env steps", "source")
_HEAD = """# Published results, and ours

Each row is one command, `jaxrl reproduce CLAIM`, which writes the JSON behind it and the figure beside it. This page is written
from those files by `jaxrl reproduce --table` and by nothing else. Seeds were fixed before any was looked at, and configurations
chosen on other seeds (both in the JSON). No seed is left out. Intervals are 95 % percentile bootstraps of the mean over seeds.

**above**: our interval lies above the published mean. **reproduced**: it contains it, and is no wider to each side than the
published deviation over seeds or a tenth of the way from random play. **below**: it lies below. **inconclusive**: it holds it
but is wider. **not comparable**: the protocol differs, and the row says in what. **single run**: too few seeds for an interval.
"""


def read_claims(folder: Path) -> list[dict[str, Any]]:
    """The results of claims in a folder, by group and name; other JSON files are passed over, and quick versions."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read ({error}); reproduce its claim again") from None
        if isinstance(values, dict) and isinstance(values.get("claim"), dict) and not values["verdict"].startswith("quick"):
            found.append(values)
    return sorted(found, key=lambda values: (values["claim"]["group"], values["claim"]["name"]))


def row_of(result: dict[str, Any]) -> list[str]:
    """The cells of a claim's row, as text."""
    claim = result["claim"]
    if "published" not in claim:
        worst = f"largest difference {result['largest_difference']:.2g}"
        values = f"{len(claim['values'])} values"
        return [claim["name"], result["verdict"], worst, "", "", "", values, "", claim["source"]]
    published, interval = claim["published"], result["interval_95"]
    deviation = "" if published["deviation"] is None else f" ± {published['deviation']:g}"
    shown = "" if interval is None else f"[{_number(interval[0])}, {_number(interval[1])}]"
    ours, iqm = ("" if value is None else _number(value) for value in (result["mean"], result["iqm"]))
    seeds, steps = str(result["num_seeds"]), f"{result['env_steps']:,}"
    theirs = f"{published['mean']:g}{deviation}"
    return [claim["name"], result["verdict"], ours, shown, iqm, seeds, theirs, steps, published["source"]]


def _number(value: float) -> str:
    """Of a score: as many digits as tell seeds apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The page: a table a group, the share of successes, and what there is to say in words."""
    lines = [_HEAD]
    comparable = [one for one in results if one["verdict"] not in (NOT_COMPARABLE, SINGLE_RUN, UNFINISHED)]
    successes = [one for one in comparable if one["verdict"] in SUCCESSES]
    if comparable:
        lines.append(f"{len(successes)} of the {len(comparable)} comparable claims are `above` or `reproduced`.\n")
    for group in sorted({one["claim"]["group"] for one in results}):
        lines += [f"## {group}\n", *_table(row_of(one) for one in results if one["claim"]["group"] == group), ""]
    for one in results:
        words = [*one["reasons"], one["claim"].get("deviations"), one["claim"].get("tried")]
        if text := " ".join(_sentence(word) for word in words if word):
            lines.append(f"* `{one['claim']['name']}`: {text}")
    kinds = sorted({one["claim"]["published"]["kind"] for one in results if "published" in one["claim"]})
    lines += [
        "",
        "Deviations of published figures: " + "; ".join(f"{kind}: {DEVIATIONS[kind]}" for kind in kinds) + ".",
    ] * bool(kinds)
    return "\n".join(lines).rstrip() + "\n"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    return lines + ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]


def write_table(folder: Path) -> Path:
    """Writes `README.md` and `claims.csv` from the results of claims in a folder.

    Raises:
      UsageError: no result there.
    """
    results = read_claims(folder)
    if not results:
        raise UsageError(f"{folder} holds no result of a claim; run one with: jaxrl reproduce NAME --out {folder}")
    write_whole(folder / "README.md", markdown(results))
    write_csv(folder / "claims.csv", COLUMNS, [row_of(one) for one in results])
    return folder / "README.md"
