"""nothing else: 20 threads save first over https, the time limit holds"""

from probes import saves, saves_from_threads, time_limit_holds

saves_from_threads()
saves()
time_limit_holds()
saves()
