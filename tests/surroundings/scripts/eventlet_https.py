"""patched first: 20 green threads save over https, others run meanwhile, the time limit holds"""

import eventlet

eventlet.monkey_patch()

from probes import saves, saves_from_threads, time_limit_holds

saves()
saves_from_threads()
time_limit_holds()
saves()
