"""The web server: waitress, which keeps no thread for a slow line, with what a fleet needs beside.

- A connection that waits for hints is handed over: it leaves waitress, and no thread waits for it.
- Connections that rest are closed, the longest resting first, when there are many: each costs the loop a
  little at every step.
- A request that takes too long to arrive is not waited for: a few thousand such lines would be all there are.
- When more requests wait than can be answered soon, further ones are told at once to come later.
"""

import os
import random
import resource
import socket
import time
from typing import Any, Final

from flask import Flask
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher, WSGITask
from waitress.utilities import Error

from edge.errors import BadSetting

HAND_OVER: Final = "shelfsight.hand_over"
"""In the environment of a request: gives a socket of its connection, which waitress then leaves alone."""

_THREADS: Final = 8
_MOST_CONNECTIONS: Final = 4000
_OTHER_FILES: Final = 200  # the database's, the metadata's, and what Python itself has open
_MOST_RESTING: Final = 200
_RESTS_FOR_S: Final = 60
_YOUNG_S: Final = 1.0
_ARRIVES_WITHIN_S: Final = 20.0  # a head; its body may take longer where it brings
_LEAST_RATE: Final = 200.0  # bytes a second; the thinnest line of a shop brings more
_MOST_WAITING: Final = 300  # requests; some 0.5 s of work
_LATER_S: Final = (5, 15)


def let_many_connect() -> int:
    """Allow this process as many open files as it may have at all; return how many may listen for hints.

    Most systems begin with 1,024, which is too few for a fleet that keeps its lines open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = 1_000_000 if hard == resource.RLIM_INFINITY else hard
    return max(0, most - _connections(most) - _OTHER_FILES)


def _connections(files: int) -> int:
    """Return how many connections waitress may have, where so many files may be open."""
    return min(_MOST_CONNECTIONS, files // 2)


class _Task(WSGITask):  # type: ignore[misc]
    """A request, whose connection the app may take away."""

    handed_over = False

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[HAND_OVER] = self._hand_over
        return environ

    def _hand_over(self) -> socket.socket:
        taken = socket.socket(fileno=os.dup(self.channel.socket.fileno()))
        self.handed_over = self.close_on_finish = True
        return taken

    def write(self, data: bytes) -> None:
        if not self.handed_over:
            super().write(data)

    def finish(self) -> None:
        if not self.handed_over:
            super().finish()


class _Busy(Error):  # type: ignore[misc]
    """What is told at once when too many requests wait."""

    code = 503
    reason = "Service Unavailable"

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        status, _, _ = super().to_response(ident)
        # Not the same for all, or they would all come again at the same moment.
        headers = [("Retry-After", str(random.randint(*_LATER_S))), ("Cache-Control", "no-store")]
        body = b'{"status": 503, "code": "server_busy", "error": "too many requests wait: try again later"}'
        return status, [("Content-Type", "application/problem+json"), *headers], body


class _Channel(HTTPChannel):  # type: ignore[misc]
    task_class = _Task
    _began = 0.0

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self._began = time.time()
        return bool(super().received(data))

    def is_late(self, now: float) -> bool:
        """Whether a request has begun to arrive and should long be here."""
        request = self.request
        if request is None or self.requests:
            return False
        return bool(now - self._began > _ARRIVES_WITHIN_S + request.body_bytes_received / _LEAST_RATE)


class _Server(TcpWSGIServer):  # type: ignore[misc]
    channel_class = _Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._refusing = (
            ThreadedTaskDispatcher()
        )  # beside the others, or a refusal would wait as long as they
        self._refusing.set_thread_count(1)
        super().__init__(*args, **kwargs)

    def add_task(self, task: _Channel) -> None:
        if len(self.task_dispatcher.queue) < _MOST_WAITING:
            super().add_task(task)
        else:
            task.requests[0].error = _Busy("")
            self._refusing.add_task(task)

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.is_late(now):
                channel.will_close = True
        resting = [each for each in self.active_channels.values() if not each.requests and not each.request]
        most = min(_MOST_RESTING, self.adj.connection_limit // 2)
        if len(resting) > most:
            resting.sort(key=lambda each: each.last_activity)
            for channel in resting[:-most]:
                if channel.last_activity < now - _YOUNG_S and not channel.total_outbufs_len:
                    channel.will_close = True


class WebServer:
    """A server that listens already; `run` answers until the process is told to stop."""

    def __init__(self, app: Flask, host: str, port: int, *, largest_body: int) -> None:
        """Listen.

        Raises:
            BadSetting: it cannot listen there.
        """
        dispatcher = ThreadedTaskDispatcher()
        map_: dict[int, Any] = {}
        try:
            settings = Adjustments(
                host=host,
                port=port,
                threads=_THREADS,
                ident=None,
                asyncore_use_poll=True,  # select() cannot count beyond 1024
                backlog=2048,
                connection_limit=_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
                channel_timeout=_RESTS_FOR_S,
                cleanup_interval=1,
                max_request_body_size=largest_body + 1,
                # Kept, so that the app can see that a caller was passed on; it never believes them.
                clear_untrusted_proxy_headers=False,
            )
            self._servers = [
                _Server(app, map=map_, dispatcher=dispatcher, adj=settings, sockinfo=place)
                for place in settings.listen
            ]
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise BadSetting(
                f"the server cannot listen on {host} port {port} ({reason}): "
                "stop what is using it, or choose others with --host and --port"
            ) from error
        dispatcher.set_thread_count(_THREADS)
        self._waiting = dispatcher.queue

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._servers[0].effective_port)

    def waiting(self) -> int:
        """Return how many requests wait for a thread."""
        return len(self._waiting)

    def run(self) -> None:
        """Answer until SIGTERM or Ctrl-C; the requests that run are answered first."""
        self._servers[0].run()
