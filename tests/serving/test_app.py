"""The API on a made-up model, in this process: answers, state, limits, errors."""

import asyncio
import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from sasrecllm.serving.handlers import Answers, Asked
from sasrecllm.serving.schema import RecommendRequest
from sasrecllm.serving.state import ServingState, Snapshot
from sasrecllm.serving.store import SqliteStore

HISTORY = ["m0001", {"item_id": "m0002", "liked": False}, {"title": "A film of the sea"}]


def ask(api, path, status=200, method="POST", **body):
    answer = api.call(method, path, json=body)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status and answer.json()["detail"]
    return answer.json()


def test_every_answer_is_the_python_apis(api, fake):
    system = fake.FakeSystem()
    history = [("m0001", True), ("m0002", False), (fake.Words("A film of the sea"), True)]
    got = ask(api, "/v1/recommend", history=HISTORY, k=5, retrieve=50)
    wanted = [line.to_dict() for line in system.recommend(history, None, 5)]
    assert got["recommendations"] == json.loads(json.dumps(wanted))
    got = ask(api, "/v1/score", item_ids=["m0005", "m0006"], history=HISTORY, user_id="ann")
    assert [s["probability"] for s in got["scores"]] == system.score_items(
        ["m0005", "m0006"], history, "ann"
    )
    got = ask(api, "/v1/explain", item_id="m0005", history=HISTORY)
    assert got["explanation"] == system.explain("m0005", history).to_dict()


def test_unknown_things_are_ignored_and_listed(api, fake):
    got = ask(api, "/v1/recommend", history=["m0001", "gone", "gone"], k=3, only=["m0003", "lost"])
    assert got["ignored"] == ["gone", "lost"]
    assert [r["item_id"] for r in got["recommendations"]] == ["m0003"] and got["fallback"] is None
    got = ask(api, "/v1/score", item_ids=["nope", "m0004"], history=["m0001"])
    assert got["ignored"] == ["nope"] and [s["item_id"] for s in got["scores"]] == ["m0004"]
    assert ask(api, "/v1/score", item_ids=["nope"])["scores"] == []
    cold = ask(api, "/v1/recommend", user_id="stranger")
    assert cold["fallback"] == "popular" and cold["user_id"] == "stranger"
    assert ask(api, "/v1/recommend", history=["gone"])["fallback"] == "popular"
    assert ask(api, "/v1/recommend")["fallback"] == "popular"
    assert ask(api, "/v1/recommend", user_id="ann")["fallback"] is None
    ask(api, "/v1/explain", 404, item_id="gone")


def test_feedback_counts_in_the_next_answer(api, fake):
    before = ask(api, "/v1/recommend", user_id="new", history=["m0009"])
    kept = ask(
        api,
        "/v1/interactions",
        interactions=[
            {"user_id": "new", "item_id": "m0003"},
            {"user_id": "new", "item_id": "later", "liked": False},
            {"user_id": "ann", "item_id": "m0004"},
        ],
    )
    assert kept == {"stored": 3, "unknown_item_ids": ["later"], "unknown_items": ["later"]}
    after = ask(api, "/v1/recommend", user_id="new", history=["m0009"])
    told = [("m0003", True), ("m0009", True)]
    wanted = [line.to_dict() for line in fake.FakeSystem().recommend(told)]
    assert after["recommendations"] == json.loads(json.dumps(wanted)) != before["recommendations"]
    ask(api, "/v1/items", method="PUT", items=[{"item_id": "later", "title": "Later"}])
    again = ask(api, "/v1/score", user_id="new", item_ids=["m0007"])
    system = api.state.current.system
    assert (
        again["scores"][0]["probability"]
        == system.score_items(["m0007"], [("m0003", True), ("later", False)])[0]
    )
    known = ask(api, "/v1/score", user_id="ann", item_ids=["m0007"])
    assert (
        known["scores"][0]["probability"] == system.score_items(["m0007"], [("m0004", True)], "ann")[0]
    )


def test_new_items_count_in_the_next_answer_and_after_a_restart(make_api, tmp_path):
    from sasrecllm.serving.store import SqliteStore

    first = make_api(store=SqliteStore(tmp_path / "s.sqlite"))
    body = {"items": [{"item_id": "n/1 ü", "title": "Quite new", "attributes": {"genre": "x"}}]}
    assert first.call("PUT", "/v1/items", json=body).json() == {"added": 1, "changed": 0}
    assert first.call("PUT", "/v1/items", json=body).json() == {"added": 0, "changed": 0}
    body["items"][0]["title"] = "Newer"
    assert first.call("PUT", "/v1/items", json=body).json() == {"added": 0, "changed": 1}
    more = {
        "items": [{"item_id": "n2", "title": "Two"}, {"item_id": "m0001", "title": "Film 1 of the sea"}]
    }
    assert first.call("PUT", "/v1/items", json=more).json() == {"added": 1, "changed": 0}
    for api in (first, make_api(store=SqliteStore(tmp_path / "s.sqlite"))):
        assert api.call("GET", "/v1/items/n%2F1%20%C3%BC").json()["title"] == "Newer"
        assert api.call("GET", "/v1/items?query=newer").json()["total"] == 1
        got = ask(api, "/v1/recommend", history=["n/1 ü"], only=["n/1 ü", "n2"])
        assert [r["item_id"] for r in got["recommendations"]] == ["n2"] and got["ignored"] == []


def test_a_server_beside_learns_of_feedback_at_once_and_of_items_at_its_reload(make_api, tmp_path):
    from sasrecllm.serving.store import SqliteStore

    one, other = (make_api(store=SqliteStore(tmp_path / "s.sqlite")) for _ in range(2))
    ask(one, "/v1/items", method="PUT", items=[{"item_id": "n", "title": "New"}])
    ask(one, "/v1/interactions", interactions=[{"user_id": "u", "item_id": "m0003"}])
    assert other.call("GET", "/v1/users/u").json()["history"][0]["item_id"] == "m0003"
    assert other.call("GET", "/v1/items/n").status_code == 404
    assert asyncio.run(other.service.reload())
    assert other.call("GET", "/v1/items/n").json()["title"] == "New"


def test_what_was_met_can_be_asked_for(api):
    for seen, met in ((None, False), ("exclude", False), ("allow", True)):
        found = ask(api, "/v1/recommend", history=["m0002"], k=60, seen=seen)["recommendations"]
        assert ("m0002" in [r["item_id"] for r in found]) == met
    ask(api, "/v1/recommend", 422, seen="maybe")


def test_the_first_stage_alone_is_an_order_of_its_own(api):
    first = ask(api, "/v1/recommend", history=["m0002"], k=4, rerank=False)["recommendations"]
    assert [r["item_id"] for r in first] == ["m0000", "m0001", "m0003", "m0004"]
    assert [r["retrieval_rank"] for r in first] == [1, 2, 3, 4]
    both = ask(api, "/v1/recommend", history=["m0002"], k=4)["recommendations"]
    assert [r["score"] for r in both] == sorted((r["score"] for r in both), reverse=True)
    ask(api, "/v1/recommend", 422, rerank="no")


def test_an_item_of_the_run_keeps_its_title(api):
    clash = {"items": [{"item_id": "x", "title": "X"}, {"item_id": "m0001", "title": "Other"}]}
    ask(api, "/v1/items", 409, method="PUT", **clash)
    assert api.call("GET", "/v1/items/x").status_code == 404
    assert api.store.items() == []


def test_an_item_that_the_store_does_not_take_is_not_served(api, monkeypatch):
    from sasrecllm.errors import ResourceError

    def full(_):
        raise ResourceError("disk full", "free some space")

    monkeypatch.setattr(api.store, "add_items", full)
    ask(api, "/v1/items", 503, method="PUT", items=[{"item_id": "x", "title": "X"}])
    assert api.call("GET", "/v1/items/x").status_code == 404


def test_wishes_reach_the_model_and_ids_that_it_has_not_are_ignored(api):
    wishes = {"where": {"genre": "War"}, "boost": {"genre": {"War": 3, "Drama": 0.5}}, "diversity": 0.4}
    answer = ask(api, "/v1/recommend", k=60, exclude=["m0001", "gone"], **wishes)
    listed = {r["item_id"] for r in answer["recommendations"]}
    assert len(listed) == 59 and "m0001" not in listed and answer["ignored"] == ["gone"]
    assert api.state.current.system.asked == {"retrieve": 100, **wishes}
    simple = {"boost": {"genre": "War"}, "where": None, "diversity": 0, "retrieve": 7}
    ask(api, "/v1/recommend", **simple)
    assert api.state.current.system.asked == simple


@pytest.mark.parametrize(
    "wish",
    [
        {"diversity": 1.1}, {"diversity": "0.3"}, {"boost": {"genre": {"War": 0}}},
        {"boost": {"genre": {"War": True}}}, {"boost": {"genre": {"War": 1e9}}}, {"exclude": "m0001"},
        {"retrieve": 0}, {"retrieve": 1001}, {"boost": {"genre": None}}, {"boost": ["genre"]},
    ],
    ids=repr,
)  # fmt: skip
def test_wishes_that_cannot_be_are_refused(api, wish):
    ask(api, "/v1/recommend", 422, **wish)


def test_a_server_may_be_started_with_another_number_of_candidates(fake):
    store = SqliteStore(":memory:")
    state = ServingState(fake.loaded, store)
    answers = Answers(state, retrieve=33)
    for request, wanted in (({}, 33), ({"retrieve": 5}, 5), ({"retrieve": None}, 33)):
        answers("recommend", Asked(RecommendRequest(**request), []))
        assert state.current.system.asked["retrieve"] == wanted
    store.close()


def test_attribute_values_are_found_by_words_the_most_frequent_first(api):
    found = api.call("GET", "/v1/attributes").json()
    assert found == {
        "values": [
            {"attribute": "genre", "value": "Drama", "items": 60},
            {"attribute": "genre", "value": "War", "items": 40},
        ],
        "total": 2,
    }
    one = api.call("GET", "/v1/attributes", params={"query": "WAR genre", "limit": 1}).json()
    assert [v["value"] for v in one["values"]] == ["War"] and one["total"] == 1
    assert api.call("GET", "/v1/attributes?query=nothing").json() == {"values": [], "total": 0}


def test_search_and_users(api):
    found = api.call("GET", "/v1/items", params={"query": "SEA film 1", "limit": 3}).json()
    assert found["total"] == 15 and len(found["items"]) == 3  # 1, 10..19, 21, 31, 41, 51
    assert found["items"][0]["title"] == "Film 1 of the sea"
    assert (
        api.call("GET", "/v1/items", params={"query": "m0007"}).json()["items"][0]["item_id"] == "m0007"
    )
    assert api.call("GET", "/v1/items").json()["total"] == 60
    assert api.call("GET", "/v1/items/%2e%2e%2fetc").status_code == 404
    users = api.call("GET", "/v1/users", params={"query": "b"}).json()
    assert users == {"user_ids": ["bob"], "users": ["bob"], "total": 1}
    ask(api, "/v1/interactions", interactions=[{"user_id": "ann", "item_id": "m0005", "liked": False}])
    lines = api.call("GET", "/v1/users/ann").json()["history"]
    assert [(x["item_id"], x["liked"]) for x in lines] == [
        ("m0000", True),
        ("m0001", False),
        ("m0005", False),
    ]
    assert api.call("GET", "/v1/users/eve").json() == {"user_id": "eve", "known": False, "history": []}


TOO_MUCH = [
    ("/v1/recommend", {"k": 101}),
    ("/v1/recommend", {"k": 0}),
    ("/v1/recommend", {"k": True}),
    ("/v1/recommend", {"k": "5"}),
    ("/v1/recommend", {"retrieve": 1001}),
    ("/v1/recommend", {"history": ["m0001"] * 501}),
    ("/v1/recommend", {"history": [{"title": "x" * 257}]}),
    ("/v1/recommend", {"history": [{"title": " \u202e\t"}]}),
    ("/v1/recommend", {"history": [{"item_id": "a", "title": "b"}]}),
    ("/v1/recommend", {"history": [7]}),
    ("/v1/recommend", {"user_id": "é" * 65}),
    ("/v1/recommend", {"user_id": "a\x00b"}),
    ("/v1/recommend", {"user_id": ""}),
    ("/v1/recommend", {"usr": "ann"}),
    ("/v1/recommend", {"only": ["m0001"] * 1001}),
    ("/v1/score", {"item_ids": []}),
    ("/v1/score", {"item_ids": ["m0001"] * 1001}),
    ("/v1/score", {"item_ids": [None]}),
    ("/v1/explain", {"history": []}),
    ("/v1/interactions", {"interactions": [{"user_id": "u", "item_id": "m0001", "liked": 1}]}),
    ("/v1/interactions", []),
]


@pytest.mark.parametrize(("path", "body"), TOO_MUCH)
def test_what_does_not_fit_the_schema_is_a_422_that_says_where(api, path, body):
    answer = api.call("POST", path, json=body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["where"].startswith("body")


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({"history": [7]}, {"history.0"}),
        ({"history": ["m0001", {"item_id": "a", "liked": "no"}]}, {
            "history.1", "history.1.liked", "history.1.title", "history.1.item_id",
        }),
        ({"boost": {"genre": 3}}, {"boost.genre"}),
        ({"boost": {"genre (old)": {"War": None}}}, {"boost.genre (old)", "boost.genre (old).War"}),
    ],
)  # fmt: skip
def test_a_place_is_that_of_the_request_and_not_of_the_library(api, body, places):
    said = ask(api, "/v1/recommend", status=422, **body)
    assert {e["where"] for e in said["errors"]} == {f"body.{place}" for place in places}


def test_limits_themselves_are_allowed(api):
    ask(api, "/v1/recommend", k=100, retrieve=1000, history=["m0001"] * 500, user_id="é" * 64)
    ask(api, "/v1/score", item_ids=["m0001"] * 1000)
    ask(api, "/v1/recommend", history=[{"title": "x" * 256}])


def test_metrics_name_routes_and_never_paths_of_clients(api):
    ask(api, "/v1/recommend", history=["m0001"])
    api.call("GET", "/v1/items/secret-id")
    api.call("GET", "/made/up/path")
    text = api.call("GET", "/metrics").text
    assert 'sasrecllm_requests_total{code="200",route="/v1/recommend"} 1.0' in text
    assert 'sasrecllm_requests_total{code="404",route="/v1/items/{item_id:path}"} 1.0' in text
    assert "secret-id" not in text and "made/up" not in text
    for name in ("request_seconds_count", "queue_depth", "taken_total", "model_info"):
        assert f"sasrecllm_{name}" in text
    assert 'sasrecllm_model_info{model="A",run="run-A"} 1.0' in text


def test_health_readiness_and_their_difference(api):
    assert api.call("GET", "/healthz").json()["status"] == "ok"
    assert api.call("GET", "/readyz").json()["model"] == "A"
    api.state.draining = True
    assert api.call("GET", "/healthz").status_code == 200
    assert api.call("GET", "/readyz").status_code == 503


def test_readiness_is_the_models_own_word_and_no_word_in_time_is_a_no(api, monkeypatch):
    word, said = threading.Event(), [True]

    def ready():
        word.wait()
        return said[0]

    monkeypatch.setattr(
        api.state,
        "current",
        replace(api.state.current, loaded=replace(api.state.current.loaded, ready=ready)),
    )
    monkeypatch.setattr("sasrecllm.serving.app.READY_SECONDS", 0.05)

    async def work():
        late = await api.send("GET", "/readyz")
        again = await api.send("GET", "/readyz")  # the question that is out is not asked twice
        monkeypatch.setattr("sasrecllm.serving.app.READY_SECONDS", 120)
        word.set()
        return late, again, await api.send("GET", "/readyz")

    late, again, then = asyncio.run(work())
    assert late.status_code == again.status_code == 503 and int(late.headers["retry-after"]) >= 1
    assert "no model process" in late.json()["detail"] and then.status_code == 200
    said[0] = False
    assert api.call("GET", "/readyz").status_code == 503
    assert api.call("GET", "/healthz").status_code == 200


def test_every_response_carries_its_headers(api):
    for path in ("/", "/v1/items", "/nowhere", "/openapi.json"):
        answer = api.call("GET", path, headers={"X-Request-ID": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers and "access-control-allow-origin" not in answer.headers
    odd = api.call("GET", "/healthz", headers={"X-Request-ID": "a b<script>"})
    assert odd.headers["x-request-id"] != "a b<script>" and len(odd.headers["x-request-id"]) == 32
    cross = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    assert api.call("OPTIONS", "/v1/recommend", headers=cross).status_code == 405


def test_a_bug_of_ours_is_a_500_problem_without_details(api, monkeypatch):
    def broken(**_):
        raise KeyError("secret")

    monkeypatch.setattr(api.state.current.system, "recommend", broken)
    answer = api.call("POST", "/v1/recommend", json={"history": ["m0001"]})
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.headers["x-request-id"]) == 32


def test_openapi_has_examples_and_names_every_error(api):
    document = api.call("GET", "/openapi.json").json()
    operation = document["paths"]["/v1/recommend"]["post"]
    assert {"200", "400", "413", "415", "422", "503"} <= set(operation["responses"])
    problem = operation["responses"]["422"]["content"]
    assert list(problem) == ["application/problem+json"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for name in ("Recommend", "Score", "Explain", "Items", "Interactions"):
        example = document["components"]["schemas"][f"{name}Request"]["examples"][0]
        path = {"Recommend": "recommend", "Score": "score", "Explain": "explain"}.get(
            name, name.lower()
        )
        ask(api, f"/v1/{path}", method="PUT" if name == "Items" else "POST", **example)


def test_a_run_whose_items_have_vectors_shows_what_is_near_behind_what_was_found(fake):
    angles = np.linspace(0, np.pi, 60)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    run = replace(fake.loaded(), vectors=vectors)
    found, total = Snapshot(run, run.system, {}).search("m0007", 4)
    assert total == 1 and [(i["item_id"], i["near"]) for i in found[:1]] == [("m0007", False)]
    assert {i["item_id"] for i in found[1:]} <= {"m0005", "m0006", "m0008", "m0009", "m0010", "m0004"}
    assert [i["near"] for i in found[1:]] == [True] * 3


ROW = {"user_id": "u", "item_id": "m0001", "like": True}


@pytest.mark.parametrize(
    ("path", "method", "body", "where", "meant"),
    [
        ("recommend", "POST", {"history": ["m0001"], "retreive": 50}, "retreive", "retrieve"),
        ("items", "PUT", {"items": [{"item_id": "x", "titel": "X"}]}, "items.0.titel", "title"),
        ("interactions", "POST", {"interactions": [ROW]}, "interactions.0.like", "liked"),
    ],
)
def test_a_field_that_there_is_not_comes_with_those_there_are(api, path, method, body, where, meant):
    said = ask(api, f"/v1/{path}", status=422, method=method, **body)
    (found,) = [e["what"] for e in said["errors"] if e["where"] == f"body.{where}"]
    assert "there is no such field; allowed: " in found and f"did you mean {meant!r}" in found
    assert "item_id" in found or "history" in found
