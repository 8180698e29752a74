"""HTTPS_PROXY=socks5h://…: saves through it; the limit holds, even if the proxy itself drips"""

import os

from probes import saves, saves_from_threads, time_limit_holds

for variable, url in {
    "UPSTASH_REDIS_REST_URL": "URL_BEHIND_SOCKS",
    "HTTPS_PROXY": "SOCKS_PROXY_URL",
}.items():
    os.environ[variable] = os.environ[url]

saves()
saves_from_threads()
time_limit_holds([os.environ["DRIPPING_HEADERS_BEHIND_SOCKS"]])
time_limit_holds([os.environ["DRIPPING_BODY_BEHIND_SOCKS"]])
os.environ["HTTPS_PROXY"] = os.environ["DRIPPING_SOCKS_PROXY_URL"]
time_limit_holds([os.environ["URL_BEHIND_SOCKS"]])
