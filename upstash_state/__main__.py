"""The command line: `upstash-state`, or `python -m upstash_state`."""

import sys


def main() -> int:
    """Run the command line and return its exit status."""
    try:
        from .cli.main import main
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("click", "rich", "dotenv"):
            raise
        sys.exit(f"upstash-state: {missing} is missing: pip install 'upstash-state[cli]'")
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(main())
