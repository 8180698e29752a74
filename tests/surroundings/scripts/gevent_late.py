"""patched after the package was imported and used: saves, others run meanwhile, the limit holds"""

from probes import saves, saves_from_threads, time_limit_holds

saves()

from gevent import monkey

monkey.patch_all()

saves()
saves_from_threads()
time_limit_holds()
saves()
