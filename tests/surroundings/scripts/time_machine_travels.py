"""travels to 1971, 2090 and back, standing still and not: saves each time"""

import time_machine
from probes import saves

saves()
for year in 1971, 2090:
    for tick in True, False:
        with time_machine.travel(f"{year}-01-01", tick=tick):
            saves()
        saves()
