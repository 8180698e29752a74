"""nothing else: 20 threads save over https, the time limit holds"""

from probes import saves, saves_from_threads, time_limit_holds

saves()
saves_from_threads()
time_limit_holds()
saves()
