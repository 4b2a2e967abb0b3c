"""What goes wrong, in one line: bad input, an environment that fails, a user's own code, names that do not exist. Imports no
JAX."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import re
import sysconfig
import traceback
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

_ALIASES = {
    alias: ours.split()
    for ours, aliases in {
        "learning_rate": "lr step_size policy_lr q_lr",
        "learning_rate temperature": "alpha",
        "value_learning_rate": "value_lr critic_lr",
        "learning_rate_end_share": "learning_rate_end anneal_lr lr_end lr_schedule",
        "total_steps": "steps timesteps total_timesteps num_steps_total max_steps num_timesteps",
        "num_envs": "envs n_envs num_environments num_workers",
        "rollout_length": "n_steps num_steps unroll_length",
        "gamma": "discount discount_factor",
        "entropy_coef temperature": "ent_coef",
        "entropy_coef": "ent",
        "value_coef": "vf_coef vf",
        "clip": "clip_coef clip_range clip_eps epsilon",
        "clip_value": "clip_vloss clip_range_vf",
        "gae_lambda": "lam lambda gae_lam",
        "batch_size": "batch minibatch_size",
        "num_minibatches": "minibatches n_minibatches",
        "num_epochs": "epochs n_epochs update_epochs",
        "capacity": "buffer_size buffer replay_size memory_size",
        "num_updates update_to_data": "gradient_steps updates",
        "update_to_data": "utd utd_ratio update_to_data_ratio replay_ratio",
        "policy_delay": "policy_frequency actor_delay actor_update_interval",
        "exploration_noise": "action_noise act_noise expl_noise",
        "target_noise": "policy_noise target_policy_noise",
        "target_noise_clip": "noise_clip",
        "num_critics": "n_critics num_qs num_q",
        "num_target_critics": "num_min_qs",
        "auto_temperature": "autotune auto_alpha",
        "target_period": "target_update_interval target_network_frequency target_update_freq",
        "learning_starts": "start_steps warmup warmup_steps",
        "epsilon_start": "start_e exploration_initial_eps eps_start",
        "epsilon_end": "end_e exploration_final_eps eps_end eps",
        "hidden": "hidden_sizes hidden_size layers net_arch",
        "max_grad_norm": "grad_clip grad_norm max_norm",
        "normalize_advantage": "norm_adv normalize_adv",
        "eval_every": "eval_freq eval_interval",
        "eval_episodes": "n_eval_episodes num_eval_episodes",
        "keep_every": "save_freq save_interval",
        "env": "env_id environment",
        "env_option": "env_kwargs",
    }.items()
    for alias in aliases.split()
}
"""What other libraries call fields of ours."""


class UsageError(ValueError):
    """Bad input from the user: one line that names the field, the value received and the fix."""


class ContractError(UsageError):
    """A user's own code returns something else than its contract says: one line that names the code, what came and the fix."""


class EnvError(RuntimeError):
    """An environment failed while it ran (its process died, it raised): one line that names it."""


class OwnCodeError(EnvError):
    """A user's own code raised: one line that says whose it is and what it was called as.

    Attributes:
      origin: what it raised.
    """

    def __init__(self, message: str, origin: BaseException) -> None:
        super().__init__(message)
        self.origin = origin


class DiskError(RuntimeError):
    """A file could not be written (a full disk, a folder that is gone): one line that names it."""


def fail(message: str) -> NoReturn:
    """Raises `UsageError`."""
    raise UsageError(message)


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())


def shown(value: Any) -> str:
    """A value in a message: on one line, not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) < 100 else f"{text[:100]}…"


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The message for a name that does not exist, with ours for what other libraries call so, or the nearest names that do."""
    names = {key.replace("-", "_"): key for key in known}
    near = [names[ours] for ours in _ALIASES.get(name.replace("-", "_"), ()) if ours in names]
    near = near or difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    some = ", ".join(sorted(known)[:12]) + ("" if len(known) <= 12 else f" or one of {len(known) - 12} more")
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {some}"
    return f"unknown {kind} {name!r}; {hint}"


# --- a user's own code ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_code(whose: str, call: str) -> Iterator[None]:
    """Around a call of a user's own code.

    Args:
      whose: such as `env='corridor:make'`.
      call: what was called and what it is to return.

    Raises:
      OwnCodeError: the code raised.
      UsageError: the code raised one; its line is told whose it is.
    """
    try:
        yield
    except EnvError:
        raise
    except UsageError as error:
        if str(error).startswith(whose):
            raise
        raise type(error)(f"{whose}: {error}") from error
    except (Exception, SystemExit) as error:
        # A program that ends itself while it is imported is no module.
        raise OwnCodeError(f"{whose} failed in {call}: {_said(error)}", error) from error


def _said(error: BaseException) -> str:
    """`TypeError: the first line of what it says`."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class OwnReport(NamedTuple):
    """What to print of an error in a user's own code: the frames that are the user's with what was raised, and a last line."""

    frames: str
    line: str


def own_report(error: BaseException) -> OwnReport | None:
    """The report of an error that a user's own code raised or let JAX raise; None of any other, which has a line of its own."""
    if isinstance(error, EnvError) and not isinstance(error, OwnCodeError):
        return None
    origin = error.origin if isinstance(error, OwnCodeError) else error
    frames = [frame for frame in traceback.extract_tb(origin.__traceback__) if is_own_file(frame.filename)]
    said = _said(origin)
    raised = f"{type(origin).__name__}: {origin}"  # Without what JAX notes beside it.
    if isinstance(origin, SyntaxError):
        raised = "".join(traceback.format_exception_only(origin))
    elif not frames and (found := [place for place in _FRAME.findall(str(origin)) if is_own_file(place[0])]):
        # Of a callback from within a compiled program, the traceback is in the text of an error of XLA's.
        frames = [traceback.FrameSummary(file, int(line), function) for file, line, function in found]
        raised = said = str(origin).strip().splitlines()[-1]
    if not frames and not isinstance(error, OwnCodeError):
        return None
    head = ["Your own code (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    line = one_line(error) if origin is not error else f"your own code failed in {frames[-1].name}: {said}"
    return OwnReport("".join([*head, raised]).strip(), line)


_FRAME = re.compile(r'File "(.+?)", line (\d+), in (\S+)')


def is_own_file(name: str) -> bool:
    """Whether a file of code is the user's: neither of this package nor Python's own nor installed."""
    path = Path(name)
    elsewhere = (Path(__file__).parent, *(Path(sysconfig.get_paths()[kind]) for kind in ("stdlib", "purelib", "platlib")))
    return not name.startswith("<") and not any(path.is_relative_to(folder) for folder in elsewhere)


def import_by_name(path: str, what: str) -> Any:
    """The object that `module:function` names.

    Raises:
      UsageError: no such module, or nothing of that name in it.
      OwnCodeError: the module cannot be imported.
    """
    module_name, _, attribute = path.partition(":")
    whose = f"{what}={path!r}"
    found = getattr(import_module(module_name, whose), attribute, None)
    if found is None:
        raise UsageError(f"{whose}: module {module_name!r} has no {attribute!r}; check its name")
    if not callable(found):
        raise UsageError(f"{whose} is a {type(found).__name__}; name a function")
    return found


def import_module(module_name: str, whose: str) -> Any:
    """The module of this name, which the user gave in `whose`, such as `env='module:make'`.

    Raises:
      UsageError: no such module.
      OwnCodeError: the module cannot be imported.
    """
    with own_code(whose, f"the import of {module_name!r}"):
        if not _is_there(module_name):
            fail(f"{whose}: no module {module_name!r} here or on PYTHONPATH; check its name")
        return importlib.import_module(module_name)


def _is_there(module_name: str) -> bool:
    """Whether there is a module of this name; the packages that it is in are imported."""
    if not all(module_name.split(".")) or module_name == "__main__":
        return False
    try:
        return importlib.util.find_spec(module_name) is not None
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            return False
        raise
