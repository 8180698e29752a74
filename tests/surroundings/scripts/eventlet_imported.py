"""patched after the package was imported: saves, others run meanwhile, the time limit holds"""

import eventlet
from probes import saves, saves_from_threads, time_limit_holds

import upstash_state  # noqa: F401

eventlet.monkey_patch()

saves()
saves_from_threads()
time_limit_holds()
saves()
