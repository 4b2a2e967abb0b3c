"""The house: which room may import which, so that a reader can learn the package from the ground up."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import jaxrl
from helpers import run_python

ROOT = Path(jaxrl.__file__).parent
FLOORS = (
    ("errors", "startup", "lazy", "interrupts", "fields", "arguments"),
    ("spec", "types", "config", "parallel", "contracts", "plan"),
    ("maths",),
    ("nets",),
    ("replay",),
    ("mdp",),
    ("records",),
    ("analysis",),
    ("loop",),
    ("agents",),
    ("envs",),
    ("claims",),
    ("drivers",),
    ("runs",),
    ("matches",),
    ("checks",),
    ("sweeps",),
    ("tuning",),
    ("claims.reproduce", "claims.figure"),
    ("cli",),
)
"""From the ground up: a room imports its own modules and those of earlier floors, nothing later."""

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
OF_FAMILIES = {"spec", "types", "config", "contracts", "errors", "maths", "nets", "replay", "parallel"}
"""What a family of agents may import beside its own folder: neither environments, nor the loop, nor another family."""

ADAPTERS = {
    "gymnax": {"envs/gymnax.py", "envs/gymnax_mdp.py"},
    "envpool": {"envs/envpool.py"},
    "gymnasium": {"envs/gymnasium.py", "envs/tools/host.py"},
    "pgx": {"envs/pgx.py"},
    "brax": {"envs/brax.py"},
    "mujoco_playground": {"envs/playground.py"},
    "mujoco": {"envs/tools/physics_pictures.py"},
    "mctx": {"agents/search/trees.py"},
    "ray": {"sweeps/ray_executor.py"},
    "optuna": {"tuning/storage.py", "tuning/study.py"},
    "orbax": {"records/checkpoint.py"},
    "tensorboardX": {"records/sinks.py"},
    "wandb": {"records/sinks.py"},
}
"""Packages that one part of the house alone knows."""

FILES = sorted(ROOT.rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    """What a file imports anywhere, but for the public names of a package, which are imported when they are used."""
    tree = ast.parse(path.read_text())
    if path.name == "__init__.py":
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT.parent / whole.replace(".", "/")).with_suffix(".py").exists()
                is_package = (ROOT.parent / whole.replace(".", "/")).is_dir()
                yield whole if is_module or is_package else node.module


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`maths` of `jaxrl.maths.losses`; "" of the package itself. A module may have a floor of its own, above its room's."""
    within = module.partition(".")[2]
    return within if within in FLOOR_OF else within.partition(".")[0]


MODULES = {module_of(path): [name for name in imports_of(path) if name.split(".")[0] == "jaxrl"] for path in FILES}


def test_no_room_imports_a_higher_one():
    above = [
        f"{module} imports {name}"
        for module, names in MODULES.items()
        for name in names
        if room_of(module) in FLOOR_OF and name != "jaxrl" and FLOOR_OF[room_of(name)] > FLOOR_OF[room_of(module)]
    ]
    assert not above


def test_every_room_has_a_floor():
    assert {room_of(module) for module in MODULES} - {"", "__main__"} <= FLOOR_OF.keys()


def test_no_module_imports_itself_in_a_circle():
    graph = {module: {name for name in names if name in MODULES and name != module} for module, names in MODULES.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_family_of_agents_knows_neither_another_nor_the_loop():
    strangers = [
        f"{module} imports {name}"
        for module, names in MODULES.items()
        for name in names
        if room_of(module) == "agents"
        and module.count(".") > 2
        and room_of(name) not in OF_FAMILIES
        and not name.startswith(".".join(module.split(".")[:3]))
    ]
    assert not strangers


def test_only_adapters_import_the_packages_that_they_adapt():
    for path in FILES:
        for name in imports_of(path):
            package = name.split(".")[0]
            if package in ADAPTERS:
                assert path.relative_to(ROOT).as_posix() in ADAPTERS[package], f"{path} imports {package}"


@pytest.mark.parametrize("module", ["errors", "lazy", "startup"])
def test_importing_the_ground_floor_starts_no_jax(module):
    program = f"import sys, jaxrl.{module}; sys.exit('jax' in sys.modules)"
    run_python("-c", program)
