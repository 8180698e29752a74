"""patched first: 20 greenlets save over https, others run meanwhile, the time limit holds"""

from gevent import monkey

monkey.patch_all()

from probes import saves, saves_from_threads, time_limit_holds

saves()
saves_from_threads()
time_limit_holds()
saves()
