"""From a run folder to a listening server, and to its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from sasrecllm.errors import ConfigError, MissingExtraError
from sasrecllm.runs.seal import choose_run
from sasrecllm.serving import request_log, security
from sasrecllm.serving.limits import RateLimit
from sasrecllm.serving.store import Store, open_store
from sasrecllm.serving.workers import SECONDS

# After the first signal the door stays open for a moment, with /readyz at 503: who is in the socket's
# queue would else be cut off, and a load balancer needs time to look.
STILL_OPEN_SECONDS = 0.5
WRONG_KEYS, WRONG_KEYS_AT_ONCE = 1.0, 20  # a second and address
LOOK_SECONDS = 2.0  # between two looks at what the link names
GRACE_SECONDS = 7  # then for requests in flight; the whole stop takes less than 10


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    key_file: Path | None = None,
    store_url: str | None = None,
    queue: int = 64,
    rate: float = math.inf,
    workers: int | None = None,
    names: Sequence[str] = (),
    root: str = "",
    timeout: float = SECONDS,
    log_requests: bool = False,
    forget: Callable[..., None] | None = None,
    retrieve: int = 100,
) -> None:
    """Serve a finished run until SIGTERM or Ctrl-C; SIGHUP loads what ``folder`` then names, and so
    does a link that comes to name another run.

    Args:
        folder: a finished run, or a link to one.
        port: 0 takes a free one; the address is printed.
        key_file: holds the key; else the environment's SASRECLLM_API_KEY.
        store_url: see :func:`~sasrecllm.serving.store.open_store`; ``FOLDER.sqlite`` by default, so
            that a run that is trained anew keeps what people told it.
        queue: requests that may wait for the model; one more gets a 503.
        rate: requests a second that each address may send; one more gets a 429.
        workers: processes that hold the run, each answering one request at a time; by default one for
            each core, up to four, and one on a GPU.
        names: further host names under which requests come; on a public address then no others.
        root: path under which a proxy shows the server.
        timeout: seconds for one answer; then the request gets a 503, and a process that still works on
            it is replaced.
        log_requests: a line of the log for every answer.
        forget: (folder, users, those whom the store knows): takes users out of the run; without it
            the server refuses to forget whom the run knows.
        retrieve: candidates of the first stage, where a request does not say how many.

    Raises:
        ConfigError: a name or path that is none, a network address without a key, a taken port, a
            store that is none.
        CheckpointError: the run is not finished or is damaged.
        MissingExtraError: FastAPI or uvicorn is not installed.
    """
    request_log.to_stderr(log_requests)
    key = security.read_key(key_file)
    security.check_bind(host, key)
    doors = {
        "hosts": security.allowed_hosts(host, names),
        "key": key,
        "limit": RateLimit(rate),
        "wrong_keys": RateLimit(WRONG_KEYS, WRONG_KEYS_AT_ONCE),
        "root": security.root_path(root),
    }
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"serving needs {error.name}", "serve") from None
    choose_run(folder)  # before a store is made beside a misspelt name
    listening = _bind(host, port)
    with listening, contextlib.closing(open_store(store_url or f"{folder.absolute()}.sqlite")) as store:
        app_of = functools.partial(
            _app, folder, store, queue, workers, timeout, doors, forget, retrieve
        )
        _serve(app_of, listening, folder)


def stored(folder: Path, url: str | None) -> Store | None:
    """The store of a run that somebody served, as :func:`serve` finds it; None where there is none.

    Raises:
        ConfigError: a store is named, and there is none; or what is there is no store.
    """
    if url is None and not Path(f"{folder.absolute()}.sqlite").is_file():
        return None
    if url is not None and "://" not in url and not Path(url).is_file():
        raise ConfigError(f"--store {url}: no such file", "name the store that `serve` was given")
    return open_store(url or f"{folder.absolute()}.sqlite")


def _app(
    folder: Path,
    store: Store,
    queue: int,
    workers: int | None,
    seconds: float,
    doors: Mapping[str, Any],
    forget: Callable[..., None] | None,
    retrieve: int,
) -> tuple[Any, Any]:
    """The service with its run loaded, and the ASGI app around it."""
    from sasrecllm.serving.app import Service, create_app
    from sasrecllm.serving.state import ServingState, load_run
    from sasrecllm.serving.workers import default_workers

    count = workers or default_workers()
    from_run = functools.partial(forget, folder) if forget else None
    state = ServingState(lambda: load_run(folder, count, seconds), store, from_run)
    service = Service(state, queue, count, seconds, retrieve)
    return service, create_app(service, **doors)


def _serve(make: Callable[[], tuple[Any, Any]], listening: socket.socket, folder: Path) -> None:
    import uvicorn

    from sasrecllm.serving.http11 import ClockedProtocol

    service, app = make()
    config = uvicorn.Config(
        app,
        http=ClockedProtocol,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=16_384,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _make_server(uvicorn, config, service)
    address, bound = listening.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    run = service.state.current.loaded
    _attempt(lambda: listening.listen(2048), f"--port {bound}")  # only now: nobody waits for loading
    print(f"sasrecllm serves {run.run} ({run.model}) at http://{shown}:{bound}", flush=True)
    asyncio.run(_until_stopped(server, service, listening, folder))
    service.close(timeout=0.5)


def _make_server(uvicorn: Any, config: Any, service: Any) -> Any:
    """A uvicorn server that says at the first signal that it is no longer ready."""

    class Server(uvicorn.Server):  # type: ignore[misc]
        leaves_at = math.inf

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Not ready from the first signal on; the second ends at once."""
            if service.state.draining:
                self.should_exit = True
                self.force_exit = sig == signal.SIGINT
            service.state.draining = True
            # uvicorn would record the signal and raise it again; a drained server ends with code 0.
            self.leaves_at = time.monotonic() + STILL_OPEN_SECONDS

        async def on_tick(self, counter: int) -> bool:
            """Whether to stop; uvicorn asks ten times a second."""
            if time.monotonic() >= self.leaves_at:
                self.should_exit = True
            return bool(await super().on_tick(counter))

    return Server(config)


async def _until_stopped(server: Any, service: Any, listening: socket.socket, folder: Path) -> None:
    async with _reload_on_hangup(service):
        watching = asyncio.create_task(reload_on_another_name(service, folder))
        try:
            await server.serve(sockets=[listening])
        finally:
            watching.cancel()


async def reload_on_another_name(service: Any, link: Path, every: float = LOOK_SECONDS) -> None:
    """Load the run that ``link`` names whenever it comes to name another than the one that answers.

    A run that was refused is not tried again before the link names something else.
    """
    tried, is_link = "", link.is_symlink()
    while is_link:
        await asyncio.sleep(every)
        there = link.resolve()
        if not (link.is_symlink() and there.is_dir()):  # between two names, perhaps
            continue
        if there.name in (tried, service.state.current.loaded.run):
            continue
        tried = "" if await service.reload() else there.name


@contextlib.asynccontextmanager
async def _reload_on_hangup(service: Any) -> AsyncIterator[None]:
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[bool]] = set()  # the loop itself keeps only weak references

    def start() -> None:
        task = loop.create_task(service.reload())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, start)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's delay off for every connection (40 ms each).
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        _attempt(lambda: listening.bind((host, port)), f"--host {host} --port {port}")
    except ConfigError:
        listening.close()
        raise
    return listening


def _attempt(act: Callable[[], None], flags: str) -> None:
    try:
        act()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{flags}: {error}", "choose another --port (0 takes a free one)") from error
