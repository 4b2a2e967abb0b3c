"""The `jaxrl` command: one module a group of commands, and what they share in `options`."""

from jaxrl.cli.commands import main as main
