"""The command line: `upstash-state`, or `python -m upstash_state`."""

import sys


def main() -> int:
    """Run the command line and return its exit status."""
    from .cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
