"""`truststore.inject_into_ssl()`: saves over https, the time limit holds"""

import truststore

truststore.inject_into_ssl()

from probes import saves, saves_from_threads, time_limit_holds

saves()
saves_from_threads()
time_limit_holds()
saves()
