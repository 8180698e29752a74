"""patched after the package was imported: saves, others run meanwhile, the time limit holds"""

from gevent import monkey
from probes import saves, saves_from_threads, time_limit_holds

import upstash_state  # noqa: F401

monkey.patch_all()

saves()
saves_from_threads()
time_limit_holds()
saves()
