"""the README's Flask app, imported before the fork, without --enable-threads: 20 posts are saved"""

import socket
import sys
from pathlib import Path

from shop import saves_what_is_posted

with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]

saves_what_is_posted(
    [
        str(Path(sys.executable).with_name("uwsgi")),
        *("--master", "--processes", "2", "--need-app", "--die-on-term"),
        *("--module", "app:app", "--http-socket", f"127.0.0.1:{port}"),
    ],
    r"bound to TCP address 127\.0\.0\.1:(\d+)",
    "spawned uWSGI worker 2",
)
