"""nothing else: 20 threads save first over https, also to an IP address; the time limit holds"""

from probes import TOKEN, URL, saves, saves_from_threads, time_limit_holds

from upstash_state import UpstashRedis

saves_from_threads()
saves()
assert UpstashRedis(URL.replace("localhost", "127.0.0.1"), TOKEN).ping()
time_limit_holds()
saves()
