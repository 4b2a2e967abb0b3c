"""`python -m jaxrl` is the `jaxrl` command."""

from jaxrl.cli.commands import main

if __name__ == "__main__":
    main()
