"""Settings that must stand before JAX is imported: compiled programs are kept between test runs."""

import os
from pathlib import Path

_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax"

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
