"""Serving the page on the loopback address until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from flantune.errors import FlantuneError

ADDRESS = "127.0.0.1"


def serve(folder: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serves the runs of a folder; returns when the process is told to stop.

    Args:
        folder: Holds the runs.
        port: Where to listen; 0 takes a free one.
        ready: Called with the address to open, which holds this start's token.
    Raises:
        FlantuneError: The extra `ui` is not installed, no such folder, or the port is taken.
    """
    try:
        import uvicorn
    except ImportError:
        raise FlantuneError("the page needs more packages: pip install 'flantune[ui]'") from None
    from flantune.ui.app import Pages
    from flantune.ui.guard import Guard
    from flantune.ui.runs import Runs

    runs = Runs(folder)
    listening = _listening(port)
    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(24)
    pages = Pages(runs, lambda: server.should_exit)
    guarded = Guard(pages.app(), port, token)
    server = uvicorn.Server(
        uvicorn.Config(
            guarded,  # type: ignore[arg-type]
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
    )
    ready(f"http://{ADDRESS}:{port}/enter/{token}")
    with listening:
        server.run(sockets=[listening])


def _listening(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((ADDRESS, port))
        made.listen(128)  # from here on a browser is kept waiting rather than refused
    except (OSError, OverflowError) as error:
        made.close()
        raise FlantuneError(f"port {port} cannot be used ({error}); choose another with --port") from None
    return made
