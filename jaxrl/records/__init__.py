"""What a run writes and says: rows, files, sinks, checkpoints, the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxrl import lazy

if TYPE_CHECKING:
    from jaxrl.records.files import write_json as write_json
    from jaxrl.records.rows import read_rows as read_rows

__getattr__, __dir__, __all__ = lazy.exports(__name__, __file__)
