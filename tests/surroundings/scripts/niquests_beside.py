"""urllib3-future has taken urllib3's place: 20 threads save over https, the time limit holds"""

import niquests  # noqa: F401
import urllib3
from probes import saves, saves_from_threads, time_limit_holds

assert int(urllib3.__version__.split(".")[2]) >= 900, urllib3.__version__
saves()
saves_from_threads()
time_limit_holds()
saves()
