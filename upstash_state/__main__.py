"""`python -m upstash_state`: the command line."""

import sys

from .tool.cli import main

sys.exit(main())
