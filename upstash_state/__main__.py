"""`python -m upstash_state`: the command line."""

import sys

from .cli import main

sys.exit(main())
