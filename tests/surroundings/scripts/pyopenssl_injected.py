"""`inject_into_urllib3()` before the first use and after: saves over https, the time limit holds"""

import urllib3.contrib.pyopenssl
from probes import saves, saves_from_threads, time_limit_holds

from upstash_state import reset_client

urllib3.contrib.pyopenssl.inject_into_urllib3()
saves()
saves_from_threads()
time_limit_holds()
saves()
urllib3.contrib.pyopenssl.extract_from_urllib3()
saves()
reset_client()
saves()
urllib3.contrib.pyopenssl.inject_into_urllib3()
saves()
reset_client()
saves()
time_limit_holds()
