"""The routes.  Each one checks its input, asks the model or the store, and says what it got."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from sasrecllm.errors import SasrecllmError
from sasrecllm.serving import problems, schema
from sasrecllm.serving.handlers import Answers, Asked
from sasrecllm.serving.limits import RateLimit
from sasrecllm.serving.middleware import Gate
from sasrecllm.serving.openapi import describe
from sasrecllm.serving.problems import Problem
from sasrecllm.serving.prometheus import Metrics
from sasrecllm.serving.queueing import ModelQueue
from sasrecllm.serving.state import Loaded, ServingState
from sasrecllm.serving.store import Interaction, StoredItem
from sasrecllm.serving.workers import SECONDS

STATIC = Path(__file__).parent / "static"
READY_SECONDS = 2.0  # a prober waits no longer
OLD_SINCE = "@1795651200"  # 2026-11-26, as RFC 9745 writes it
log = logging.getLogger("sasrecllm.serving")

Route = Callable[..., Any]
SearchWords = Annotated[str, Query(max_length=256, pattern=schema.NO_NUL)]
Limit = Annotated[int, Query(ge=1, le=100)]
PathId = Annotated[schema.Id, InPath()]


class Service:
    """A run being served: state, the queue for the model and metrics; the routes hang on it.

    Args:
        queue: requests that may wait for the model.
        threads: requests that the model answers at the same time.
        seconds: after which a request without an answer is refused.
        retrieve: candidates of the first stage, where a request does not say how many.
    """

    def __init__(
        self,
        state: ServingState,
        queue: int = 64,
        threads: int = 1,
        seconds: float = SECONDS,
        retrieve: int = 100,
    ) -> None:
        self.state, self.seconds = state, seconds
        self._looking: tuple[Loaded, asyncio.Future[bool]] | None = None
        self.metrics = Metrics(lambda: self.model.depth)
        self.model = ModelQueue(Answers(state, retrieve), queue, threads, self.metrics.taken.inc)
        # Who waits for the store to write holds up nobody who asks the model or reads.
        self.kept = ModelQueue(state.keep, queue)
        self._reloading = asyncio.Lock()
        self._show_model()

    async def ask(self, kind: str, request: schema.Ask, response: Response) -> Any:
        """The model's answer, with what the store keeps of the request's user."""
        if request.old_names:
            new = ", ".join(f"{old} is {request.OLD_NAMES[old]} now" for old in request.old_names)
            response.headers["Deprecation"] = OLD_SINCE
            response.headers["Warning"] = f'299 - "{new}; the old name goes with the next version"'
        feedback = await run_in_threadpool(self.state.feedback_of, request.user_id)
        return await self.model.answer(kind, Asked(request, feedback), self.seconds)

    async def keep(self, kind: str, given: Any) -> Any:
        """Write what the server is told, one request after the other."""
        return await self.kept.answer(kind, given, self.seconds)

    async def ready(self) -> bool:
        """Whether the model can answer; what takes longer to find out is a no."""
        loaded = self.state.current.loaded
        if self._looking is None or self._looking[1].done() or self._looking[0] is not loaded:
            self._looking = loaded, asyncio.ensure_future(run_in_threadpool(loaded.ready))
        try:
            return await asyncio.wait_for(asyncio.shield(self._looking[1]), READY_SECONDS)
        except TimeoutError:
            return False

    def close(self, timeout: float = 1.0) -> None:
        """Answer what waits, then end; gives up waiting for it after ``timeout`` seconds."""
        self.kept.close(timeout)
        self.model.close(timeout)

    async def reload(self) -> bool:
        """Load the run anew and switch to it; False where it is damaged and the old one stays."""
        async with self._reloading:
            return await self._reload()

    async def forget(self, user: str) -> None:
        """Take a user out of the run and the store; the run is then loaded without him."""
        async with self._reloading:  # a run that is being loaded may still hold him
            await run_in_threadpool(self.state.forget, user)
            await self._reload()

    async def _reload(self) -> bool:
        try:
            candidate = await run_in_threadpool(self.state.load_candidate)
            await run_in_threadpool(self.state.swap, candidate)
        except Exception as error:
            self.metrics.reloads.labels("refused").inc()
            refused = isinstance(error, SasrecllmError)
            self.state.reload_error = str(error) if refused else type(error).__name__
            log.error("reload refused, %s stays: %s", self.state.current.loaded.model, error)
            return False
        self.metrics.reloads.labels("ok").inc()
        self._show_model()
        log.info("reloaded: %s", self.state.current.loaded.model)
        return True

    def _show_model(self) -> None:
        loaded = self.state.current.loaded
        self.metrics.show_model(loaded.run, loaded.model)


def create_app(
    service: Service,
    hosts: frozenset[str] | None = None,
    key: str | None = None,
    limit: RateLimit | None = None,
    wrong_keys: RateLimit | None = None,
    root: str = "",
) -> Gate:
    """The whole ASGI app: routes, page, error format, and the gate around them.

    Args:
        hosts: names that a Host header may hold; None for any.
        key: what every path but ``/healthz`` asks for; None for an open door.
        limit: how often one address may ask; no limit by default.
        wrong_keys: how often one address may give a wrong key; no limit by default.
        root: path under which a proxy shows the server (:func:`~sasrecllm.serving.security.root_path`).
    """
    app = FastAPI(
        title="sasrecllm",
        version=importlib.metadata.version("sasrecllm"),
        docs_url=None,  # Swagger's page loads its script from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    made = (_model_routes, _catalog_routes, _user_routes, _process_routes)
    routers = [make(service) for make in made]
    for router in routers:
        app.include_router(router)
    _add_page(app, root)
    describe(app, with_key=key is not None, root=root)
    routes = [r for router in routers for r in router.routes if isinstance(r, APIRoute)]
    app.state.routes = routes
    with_body = {(m, r.path) for r in routes if r.body_field is not None for m in r.methods or ()}
    return Gate(app, service.metrics, with_body, hosts, key, limit, wrong_keys, root)


def _refuse_parameters(request: Request) -> None:
    """Refuse what a query says twice, or says to nobody, as in a body."""
    route: APIRoute = request.scope["route"]
    allowed = {parameter.alias for parameter in route.dependant.query_params}
    given = [name for name, _ in request.query_params.multi_items()]
    errors = [(name, "no such parameter") for name in dict.fromkeys(given) if name not in allowed]
    errors += [(name, "given twice") for name in allowed if given.count(name) > 1]
    if errors:
        raise Problem(
            422,
            "the request does not fit the schema; see /openapi.json",
            errors=[{"where": f"query.{name[:40]}", "what": what} for name, what in errors],
        )


def _routes_of(tag: str) -> APIRouter:
    return APIRouter(prefix="/v1", tags=[tag], dependencies=[Depends(_refuse_parameters)])


def _model_routes(service: Service) -> APIRouter:
    router = _routes_of("model")

    def answers(path: str, model: type[schema.Answer]) -> Callable[[Route], Route]:
        # Unset is only the old name of a thing that was asked by its new one.
        return router.post(path, response_model=model, response_model_exclude_unset=True)

    @answers("/recommend", schema.RecommendResponse)
    async def recommend(request: schema.RecommendRequest, response: Response) -> Any:
        """The best items for a known user, or for a history."""
        return await service.ask("recommend", request, response)

    @answers("/score", schema.ScoreResponse)
    async def score(request: schema.ScoreRequest, response: Response) -> Any:
        """Calibrated probability that the user likes each item."""
        return await service.ask("score", request, response)

    @answers("/explain", schema.ExplainResponse)
    async def explain(request: schema.ExplainRequest, response: Response) -> Any:
        """Why an item is, or is not, for this user."""
        return await service.ask("explain", request, response)

    return router


def _catalog_routes(service: Service) -> APIRouter:
    router = _routes_of("catalogue")
    state = service.state

    @router.put("/items", response_model=schema.ItemsKept)
    async def put_items(request: schema.ItemsRequest) -> Any:
        """Add items by their titles; they count in the next answer."""
        items = [StoredItem(i.item_id, i.title, i.attributes) for i in request.items]
        added, changed = await service.keep("items", items)
        return {"added": added, "changed": changed}

    @router.get("/items", response_model=schema.ItemsFound)
    async def find_items(query: SearchWords = "", limit: Limit = 20) -> Any:
        """Items whose title holds all words of the query, and those near them by their vectors."""
        items, total = await run_in_threadpool(state.current.search, query, limit)
        return {"items": items, "total": total}

    @router.get("/attributes", response_model=schema.AttributesFound)
    async def find_attributes(query: SearchWords = "", limit: Limit = 20) -> Any:
        """Values of the items' attributes that hold all words of the query."""
        values, total = await run_in_threadpool(state.current.attributes, query, limit)
        return {"values": values, "total": total}

    @router.get("/items/{item_id:path}", response_model=schema.ItemBody)
    async def get_item(item_id: PathId) -> Any:
        """One item."""
        now = state.current
        if not now.holds(item_id):
            raise Problem(404, "no item of the catalogue has this id")
        return now.item(int(now.catalog.item_index([item_id])[0]))

    return router


def _user_routes(service: Service) -> APIRouter:
    router = _routes_of("users")
    state = service.state

    @router.post("/interactions", response_model=schema.InteractionsKept)
    async def post_interactions(request: schema.InteractionsRequest) -> Any:
        """Keep feedback; it counts in the next answer about its user."""
        feedback = [Interaction(i.user_id, i.item_id, i.liked) for i in request.interactions]
        unknown = await service.keep("interactions", feedback)
        return {"stored": len(feedback), "unknown_item_ids": unknown, "unknown_items": unknown}

    @router.get("/users", response_model=schema.UsersFound)
    def find_users(query: SearchWords = "", limit: Limit = 20) -> Any:
        """Users of the run whose id begins with the query."""
        found = state.current.users(query)
        return {"user_ids": found[:limit], "users": found[:limit], "total": len(found)}

    @router.get("/users/{user_id:path}", response_model=schema.UserBody)
    async def get_user(user_id: PathId) -> Any:
        """What is known of a user: the run's rows, then what this server was told."""
        feedback = await run_in_threadpool(state.feedback_of, user_id)
        return state.current.history_of(user_id, feedback)

    @router.delete("/users/{user_id:path}", response_model=schema.UserForgotten)
    async def forget_user(user_id: PathId) -> Any:
        """Take a user out of the run and of what this server was told, for good."""
        await service.forget(user_id)
        return {"user_id": user_id, "forgotten": True}

    return router


def _process_routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["process"])
    state = service.state

    @router.get("/healthz", response_model=schema.Health)
    async def healthz() -> Any:
        """Whether the process lives."""
        return {"status": "ok"}

    @router.get("/readyz", response_model=schema.Health)
    async def readyz() -> Any:
        """Whether requests are welcome, and which run answers them."""
        if state.draining:
            raise Problem(503, "this server is stopping", {"Retry-After": "5"})
        if not await service.ready():
            raise Problem(503, "no model process answers; try again later", {"Retry-After": "5"})
        loaded = state.current.loaded
        return {
            "status": "ready",
            "run": loaded.run,
            "model": loaded.model,
            "reload_error": state.reload_error,
        }

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics(request: Request) -> Response:
        """Counters for Prometheus; as OpenMetrics with the ids of requests, where that is accepted."""
        text, media_type = service.metrics.text(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    return router


def _add_page(app: FastAPI, root: str) -> None:
    """One route for each file that is there at the start: no path of a client ever reaches the disk."""
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            name = file.relative_to(STATIC).as_posix()
            app.add_api_route(
                "/" if name == "index.html" else f"/{name}",
                _page(file, root) if name == "index.html" else _file(file),
                include_in_schema=False,
                response_class=FileResponse,
            )


def _page(path: Path, root: str) -> Any:
    """The page, whose links begin with ``root``; its script looks beside itself."""
    text = path.read_text(encoding="utf-8").replace('="/', f'="{root}/')

    async def read() -> HTMLResponse:
        return HTMLResponse(text)

    return read


def _file(path: Path) -> Any:
    async def read() -> FileResponse:
        return FileResponse(path)

    return read
