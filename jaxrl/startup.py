"""What must be set before JAX starts: threads, devices, the compilation cache. Imports no JAX."""

from __future__ import annotations

import os
from pathlib import Path

from jaxrl.errors import fail

ONE_CORE = {"NPROC": "1", "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
"""Environment variables of a process that computes on one CPU core, beside others."""


def use_threads(arguments: list[str], default: int = 1) -> None:
    """Sets the size of XLA's CPU thread pool; it is read when JAX starts, so this must come first."""
    text = argument(arguments, "--threads") or str(default)
    if not text.isdigit():
        fail(f"threads={text!r} is out of range; give 0 or more")
    if text != "0":
        os.environ.setdefault("NPROC", text)


def argument(arguments: list[str], flag: str) -> str | None:
    """The value behind a flag, for what must be known before JAX is imported."""
    text = None
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            text = arguments[index + 1]
        elif argument.startswith(f"{flag}="):
            text = argument.split("=", 1)[1]
    return text


def use_devices(text: str | None) -> None:
    """Divides the CPU into devices, where there is no accelerator; read when JAX starts, so this must come first."""
    if text and text.isdigit() and int(text) > 1 and not devices_are_set():
        os.environ["JAX_NUM_CPU_DEVICES"] = text


def devices_are_set() -> bool:
    """Whether the environment says already how many devices the CPU is."""
    return "JAX_NUM_CPU_DEVICES" in os.environ or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def use_compilation_cache() -> None:
    """Compiled programs are kept between runs, unless JAX_COMPILATION_CACHE_DIR says where or is empty."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "jaxrl" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
