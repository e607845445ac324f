"""The proxy nginx in front of workers, with the configuration of the guide on resumable replies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager
from textwrap import dedent
from urllib.parse import urlsplit

from helpers.processes import ended
from tower_memory import resumable

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

FRAME = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
{guide}
}}
"""


def configuration(folder, workers, address):
    """Return the configuration of the guide with the addresses of *workers*."""
    guide = re.search(r"With nginx::\n\n((?: {4}.*\n|\n)+)", resumable.__doc__)[1]
    servers = "".join(f"server {urlsplit(url).netloc};\n" for url in workers)
    guide = re.sub(r"(?: *server 127\.0\.0\.1:\d+;\n)+", servers, dedent(guide), count=1)
    guide = guide.replace("server {", f"server {{\nlisten {address};", 1)
    return FRAME.format(folder=folder, guide=guide)


@contextmanager
def nginx(folder, workers):
    """Run nginx in front of *workers*, and return its URL.

    It takes over a socket that listens already, so requests wait until it has started.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        file = folder / "nginx.conf"
        file.write_text(configuration(folder, workers, address))
        process = subprocess.Popen(
            [NGINX, "-p", folder, "-c", file, "-e", "stderr"],
            pass_fds=[listening.fileno()],
            env={**os.environ, "NGINX": f"{listening.fileno()};"},
        )
    with ended(process, signal.SIGTERM):  # nginx ends its own workers
        yield f"http://{address}"
