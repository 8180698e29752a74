"""installed, which changes every process: saves over https, the time limit holds"""

import ssl

from probes import saves, time_limit_holds

assert ssl.SSLContext.__module__.startswith(("pip", "truststore")), ssl.SSLContext
saves()
time_limit_holds()
saves()
