"""the README's Flask app, `gunicorn -k gevent`, with --preload and without: 20 posts are saved"""

import sys

from shop import saves_what_is_posted

GUNICORN = [sys.executable, "-m", "gunicorn", "-k", "gevent", "--bind", "127.0.0.1:0", "app:app"]

for preload in [], ["--preload"]:
    saves_what_is_posted(
        [*GUNICORN, *preload], r"Listening at: http://127\.0\.0\.1:(\d+)", "Booting worker"
    )
