"""The table of results: written from the JSON files of claims and by nothing else.

write_table(Path("experiments/results"))      # README.md and claims.csv, from *.json there
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl.claims import FAMILIES, all_claims, title_of
from jaxrl.claims.claim import DEVIATIONS, SCORES
from jaxrl.claims.verdict import ABOVE, BELOW, INCONCLUSIVE, NOT_COMPARABLE, REPRODUCED, SINGLE_RUN, SUCCESSES, UNFINISHED
from jaxrl.errors import UsageError, one_line, shown
from jaxrl.fields import option_words
from jaxrl.records.files import Types, misfit, parse_json, read_text, write_csv, write_whole

Result = dict[str, Any]
COLUMNS = ("claim", "verdict", "ours", "95 % interval", "IQM", "seeds", "published", "env steps", "minutes")
_NUMBERS = ("ours", "95 % interval", "IQM", "seeds", "published", "env steps", "minutes")
_OF_TABLES = ("claim", "verdict", "values", "largest difference", "tolerance")
_NOT_COUNTED = (NOT_COMPARABLE, SINGLE_RUN, UNFINISHED)
_TITLE = "# Published results, and ours"
_HEAD = f"""{_TITLE}

Each row is one command, `jaxrl reproduce CLAIM`, which writes the JSON file and the figure behind it. This page and
`claims.csv` are written from those files by `jaxrl reproduce --table` and by nothing else. Below: how to read it.
"""
_FOOT = """Higher is better everywhere. Ours is the mean over seeds, IQM their interquartile mean, the interval a 95 %
percentile bootstrap of the mean over seeds; of few seeds it is too narrow: of 3, 5 and 10 normal scores it holds the true mean
in 75 %, 84 % and 90 % of cases. Seeds were fixed before any was looked at, and configurations chosen on others (both are in
the JSON); what had been seen before is in the notes. No seed is left out; one that failed counts as random play. "best" and
"final" are the best greedy evaluation of training and the last one, where the score is another. Minutes are wall clock of all
seeds, on the machine that ran them (its cores are in the JSON) beside whatever else it did.

* **above**: our interval lies above the published mean.
* **reproduced**: it contains it, and is no wider to each side than the published deviation over seeds or a tenth of the way
  from random play to the published mean, whichever is larger.
* **below**: it lies below.
* **inconclusive**: it contains it, but is wider than that.
* **not comparable**: the protocol or the budget differs, and the notes say in what.
* **single run**: fewer than three seeds, so that there is no interval.
"""


# --- reading --------------------------------------------------------------------------------------------------------


_NONE = type(None)
_PROTOCOL: Types = {
    **{"score": str, "episodes": (int, _NONE), "sticky_actions": (float, _NONE), "frame_skip": (int, _NONE)},
    **{"action_set": (str, _NONE), "length_cap": (int, _NONE), "rules": (str, _NONE)},
}
_OF_PUBLISHED: Types = {
    **{"mean": float, "deviation": (float, _NONE), "kind": str, "num_seeds": (int, _NONE), "source": str, "env_steps": int},
    "protocol": dict,
}
_OF_ALL: Mapping[str, Types | type] = {
    "": {"verdict": str, "reasons": list, "command": str, "wall_seconds": float},
    "reasons": str,
    "claim": {"name": str, "group": str, "env": str, "env_options": dict, "deviations": str},
}
_OF_EXACT: Mapping[str, Types | type] = {
    "": {"largest_difference": float},
    "claim": {"values": list, "tolerance": float, "policy": str, "source": str},
}
_OF_RUNS: Mapping[str, Types | type] = {
    "": {
        **{"mean": (float, _NONE), "iqm": (float, _NONE), "interval_95": (list, _NONE), "num_seeds": int, "env_steps": int},
        **{"minutes": (float, _NONE), "final": (dict, _NONE), "best": (dict, _NONE)},
    },
    "interval_95": {"0": float, "1": float},
    "final": {"mean": (float, _NONE)},
    "best": {"mean": (float, _NONE)},
    "claim": {"agent": str, "config": dict, "seeds": list, "published": dict, "protocol": dict, "tried": (str, _NONE)},
    "claim.published": _OF_PUBLISHED,
    "claim.published.protocol": _PROTOCOL,
    "claim.protocol": _PROTOCOL,
}
"""What the page reads of results, by place: types of the names there, or that of all elements."""
_CHOICES: Mapping[str, Container[str]] = {
    "claim.published.kind": DEVIATIONS,
    "claim.published.protocol.score": SCORES,
    "claim.protocol.score": SCORES,
}
_LATER = {"minutes": None, "final": None, "best": None}
"""What results of before do not have."""


def read_claims(folder: Path) -> list[Result]:
    """The results of claims in a folder, by group and name: of each the claim's own, else that with most seeds.

    Other JSON files are passed over, and quick versions.

    Raises:
      UsageError: a file that cannot be read, or a claim's that lacks what the page says.
    """
    found: dict[str, Result] = {}
    own: set[str] = set()
    for path in sorted(folder.glob("*.json")):
        if (result := _read(path)) is None:
            continue
        name = result["claim"]["name"]
        if path.stem == name:
            own.add(name)
            found[name] = result
        elif name not in own:
            found[name] = max(found.get(name, result), result, key=lambda one: one.get("num_seeds", 0))
    groups = {group: place for place, group in enumerate(FAMILIES)}
    return sorted(found.values(), key=lambda one: (groups.get(one["claim"]["group"], len(groups)), one["claim"]["name"]))


def _read(path: Path) -> Result | None:
    """The result in a file; None of a quick version, or where there is none."""
    fix = "reproduce its claim again, or move the file to another folder"
    text = read_text(path, fix)
    try:
        values = parse_json(text)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read ({one_line(error)[:100]}); {fix}") from None
    if not isinstance(values, dict) or not isinstance(values.get("claim"), dict):
        return None
    if (fault := _fault(values)) is not None:
        raise UsageError(f"{path} is of another version, or damaged ({fault}); {fix}")
    return None if values["verdict"].startswith("quick") else values


def _fault(values: Mapping[str, Any]) -> str | None:
    """What the page cannot say of a result, in a few words, or None; a place is checked before what is in it."""
    values = _LATER | {**values, "claim": {"tried": None} | values["claim"]}
    for shape in (_OF_ALL, _OF_EXACT if is_exact(values) else _OF_RUNS):
        for place, types in shape.items():
            if (part := _at(values, place)) is None:
                continue
            part = {str(number): item for number, item in enumerate(part)} if isinstance(part, list) else part
            if (fault := misfit(part, types if isinstance(types, Mapping) else dict.fromkeys(part, types))) is not None:
                return f"{place}{'.' * bool(place)}{fault}"
    words = {} if is_exact(values) else {place: _at(values, place) for place in _CHOICES}
    return next((f"{place}={shown(word)} is unknown" for place, word in words.items() if word not in _CHOICES[place]), None)


def _at(values: Any, place: str) -> Any:
    for name in filter(None, place.split(".")):
        values = values[name]
    return values


def row_of(result: Result) -> dict[str, str]:
    """The cells of a claim's row by column, as text."""
    claim = result["claim"]
    row = dict.fromkeys(COLUMNS, "") | {"claim": claim["name"], "verdict": result["verdict"]}
    minutes = result["wall_seconds"] / 60 if result.get("minutes") is None else result["minutes"]
    row["minutes"] = f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"
    if is_exact(result):
        return row | {
            "ours": f"largest difference {result['largest_difference']:.2g}",
            "largest difference": f"{result['largest_difference']:.2g}",
            "values": str(len(claim["values"])),
            "published": f"{len(claim['values'])} values",
            "tolerance": f"{claim['tolerance']:g}",
        }
    published, interval = claim["published"], result["interval_95"]
    deviation = "" if published["deviation"] is None else f" ± {published['deviation']:,g}"
    ours, iqm = ("" if value is None else _number(value) for value in (result["mean"], result["iqm"]))
    for beside in ("final", "best"):
        if (other := result.get(beside)) and other["mean"] is not None:
            ours += f" ({beside} {_number(other['mean'])})"
    return row | {
        "ours": ours,
        "95 % interval": "" if interval is None else f"[{_number(interval[0])}, {_number(interval[1])}]",
        "IQM": iqm,
        "seeds": str(result["num_seeds"]) + ("" if is_whole(result) else f" of {len(claim['seeds'])}"),
        "published": f"{published['mean']:,g}{deviation}",
        "env steps": f"{result['env_steps']:,}",
    }


def is_exact(result: Mapping[str, Any]) -> bool:
    """Whether it is a table of exact values."""
    return "published" not in result["claim"]


def is_whole(result: Result) -> bool:
    """Whether all seeds of the claim were run."""
    return result.get("num_seeds", 0) >= len(result["claim"].get("seeds", ()))


def _number(value: float) -> str:
    """Of a score: as many digits as tell seeds apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.4g}"


# --- the page -------------------------------------------------------------------------------------------------------


def markdown(results: Sequence[Result], folder: Path) -> str:
    """The page: the share of successes, a table and notes of each group, and what was not run."""
    lines = [_HEAD, *_share(results), ""]
    for group in dict.fromkeys(one["claim"]["group"] for one in results):
        of_group = [one for one in results if one["claim"]["group"] == group]
        lines += [f"## {group or 'claims of your own'}", "", *([title_of(group), ""] if group in FAMILIES else [])]
        for exact, columns in ((False, COLUMNS), (True, _OF_TABLES)):
            rows = [_linked(row_of(one), folder) for one in of_group if is_exact(one) == exact]
            lines += [*_table(columns, rows), ""] * bool(rows)
        shortfalls = list(filter(None, map(_shortfall, of_group)))
        lines += [*shortfalls, ""] * bool(shortfalls)
        lines += ["<details><summary>Sources, protocols, commands</summary>", ""]
        lines += [*map(_note, of_group), "", "</details>", ""]
    run = {one["claim"]["name"] for one in results}
    if left := [name for name in all_claims() if name not in run]:
        lines += ["## not run", "", f"Registered, but not run here: {', '.join(f'`{name}`' for name in left)}.", ""]
    return "\n".join([*lines, "## how to read it", "", _FOOT])


def _share(results: Sequence[Result]) -> list[str]:
    """How many claims of those that can be compared are successes, and what the others are."""
    comparable = [one for one in results if one["verdict"] not in _NOT_COUNTED and is_whole(one)]
    words = Counter(one["verdict"] for one in comparable)
    others = Counter("not of all seeds" if one["verdict"] not in _NOT_COUNTED else one["verdict"] for one in results)
    others -= Counter({"not of all seeds": len(comparable)})
    said = ", ".join(f"{words[word]} {word}" for word in (ABOVE, REPRODUCED, INCONCLUSIVE, BELOW) if words[word])
    rest = ", ".join(f"{number} {word}" for word, number in sorted(others.items()))
    if not comparable:
        return [f"None of the {len(results)} claims that were run can be compared: {rest}."]
    good = sum(words[word] for word in SUCCESSES)
    share = f"**{good} of {len(comparable)} comparable claims ({good / len(comparable):.0%}) are above or reproduced**: {said}."
    return [share + (f" Not counted: {rest}." if rest else "")]


def _linked(row: Mapping[str, str], folder: Path) -> dict[str, str]:
    """A row whose claim is a link to its figure, or to its numbers where it has none."""
    name = row["claim"]
    file = next((f"{name}{end}" for end in (".png", ".json") if (folder / f"{name}{end}").exists()), None)
    return {**row, "claim": f"[{name}]({file})" if file else name}


def _shortfall(result: Result) -> str:
    """Of a claim that is no success, or not a plain one, what there is to say; "" of others."""
    said = [*result["reasons"], result["claim"].get("tried")]
    if result["verdict"] in SUCCESSES and not result["reasons"]:
        return ""
    text = " ".join(_sentence(text) for text in said if text)
    return f"* `{result['claim']['name']}`, {result['verdict']}{': ' * bool(text)}{text or '.'}"


def _note(result: Result) -> str:
    """What stands behind a row, in sentences."""
    claim = result["claim"]
    if is_exact(result):
        said = [claim["source"], f"Values of the {claim['policy']} policy on `{claim['env']}`"]
    else:
        said = [_published_words(claim), *_protocol_words(claim), _trained_words(claim)]
    said.append(claim.get("deviations"))
    return f"* `{claim['name']}`: {' '.join(_sentence(text) for text in said if text)} `{result['command']}`"


def _published_words(claim: Mapping[str, Any]) -> str:
    published = claim["published"]
    number, deviation = published["num_seeds"], "" if published["deviation"] is None else f" ± {published['deviation']:,g}"
    of_seeds = "" if number is None else f"{number} seed{'s' * (number > 1)}"
    behind = {
        "seeds": f" over {of_seeds or 'seeds'}",
        "episodes": f" over the episodes of {of_seeds or 'one run'}",
        "figure": f", read off a figure{', ' if of_seeds else ''}{of_seeds}",
        "none": f", {of_seeds}" if of_seeds else "",
    }[published["kind"]]
    return f"{published['source']}: {published['mean']:,g}{deviation}{behind}, {published['env_steps']:,} env steps"


def _protocol_words(claim: Mapping[str, Any]) -> list[str]:
    """The protocol of both sides, once where nothing differs that both tell."""
    theirs, ours = claim["published"]["protocol"], claim["protocol"]
    if all(None in (theirs[name], ours[name]) or theirs[name] == ours[name] for name in ours):
        told = {name: ours[name] if ours[name] is not None else theirs[name] for name in ours}
        return [f"Score: {_in_words(told)}"]
    return [f"Published score: {_in_words(theirs)}", f"Ours: {_in_words(ours)}"]


def _in_words(protocol: Mapping[str, Any]) -> str:
    words, episodes = [SCORES[protocol["score"]]], protocol["episodes"]
    if episodes is not None:
        words[0] += f" ({episodes} a seed)"
    cap = protocol["length_cap"]
    told = {
        "sticky_actions": lambda: f"sticky actions {protocol['sticky_actions']:g}",
        "frame_skip": lambda: f"frame skip {protocol['frame_skip']}",
        "action_set": lambda: f"{protocol['action_set']} action set",
        "length_cap": lambda: f"episodes cut after {cap:,} decisions" if cap else "no cut of episodes",
        "rules": lambda: f"rules of {protocol['rules']}",
    }
    words += [say() for name, say in told.items() if protocol[name] is not None]
    return ", ".join(words)


def _trained_words(claim: Mapping[str, Any]) -> str:
    options = f" with {' '.join(f'`{word}`' for word in _options(claim))}" if claim["env_options"] else ""
    return f"`{claim['agent']}` on `{claim['env']}`{options}, {'settings in the JSON' if claim['config'] else 'defaults'}"


def _options(claim: Mapping[str, Any]) -> list[str]:
    return option_words("env_option", claim["env_options"])[1:]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text[:1].upper()}{text[1:]}." if not text.startswith("`") else f"{text}."


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> list[str]:
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join(" ---: " if name in _NUMBERS else " --- " for name in columns) + "|",
    ]
    return lines + ["| " + " | ".join(row[name].replace("|", r"\|") for name in columns) + " |" for row in rows]


# --- files ----------------------------------------------------------------------------------------------------------

_OF_CSV = (
    *("group", "claim", "agent", "env", "env_options", "verdict", "mean", "low", "high", "iqm", "final_mean", "best_mean"),
    *("num_seeds", "num_failed", "env_steps", "minutes", "published", "deviation", "kind", "published_seeds"),
    *("published_env_steps", "source", "reasons", "deviations", "command", "date"),
)


def _of_csv(result: Result) -> list[Any]:
    """A row of `claims.csv`: numbers with all digits, nothing where there is none."""
    claim = result["claim"]
    published, (low, high) = claim.get("published", {}), result.get("interval_95") or (None, None)
    known = {
        **{name: claim[name] for name in ("group", "env", "deviations")},
        **{name: published.get(name) for name in ("deviation", "kind")},
        **{name: result.get(name) for name in _OF_CSV if name in result},
        "claim": claim["name"],
        "agent": claim.get("agent"),
        "env_options": " ".join(_options(claim)),
        "low": low,
        "high": high,
        **{f"{beside}_mean": (result.get(beside) or {}).get("mean") for beside in ("final", "best")},
        "published": published.get("mean"),
        "published_seeds": published.get("num_seeds"),
        "published_env_steps": published.get("env_steps"),
        "source": published.get("source", claim.get("source")),
        "reasons": "; ".join(result["reasons"]),
    }
    return ["" if known.get(name) is None else known[name] for name in _OF_CSV]


def write_table(folder: Path) -> Path:
    """Writes `README.md` and `claims.csv` from the results of claims in a folder.

    Raises:
      UsageError: no result there, or a `README.md` that was not written so.
    """
    results, page = read_claims(folder), folder / "README.md"
    if not results:
        raise UsageError(f"{folder} holds no result of a claim; run one with: jaxrl reproduce NAME --out {folder}")
    if page.exists() and not page.read_text(encoding="utf-8", errors="replace").startswith(_TITLE):
        raise UsageError(
            f"{page} is another page, which would be lost; rename it, or move the results to a folder of their own"
        )
    write_whole(page, markdown(results, folder))
    write_csv(folder / "claims.csv", _OF_CSV, [_of_csv(one) for one in results])
    return page
