"""What tests of sweeps share."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

from jaxrl.sweeps import driver


@pytest.fixture(scope="module")
def no_report() -> Iterator[None]:
    """Sweeps end without their report, which is drawn for seconds."""
    jax.devices()  # A sweep in Python makes a device of each core, unless JAX has started.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "write_report", lambda folder: None)
        yield
