"""The API on both databases: one alphabet, and readers that do not wait for writers."""

import asyncio

import pytest

from sasrecllm.serving import sql
from sasrecllm.serving.store import open_store


@pytest.fixture
def api(make_api, store_url, monkeypatch):
    monkeypatch.setattr(sql, "LOCK_SECONDS", 300)  # no writer gives up because the machine is busy
    return make_api(store=open_store(store_url))


def item(**other):
    return {"items": [{"item_id": "n", "title": "New"} | other]}


NUL = "a\x00b"
WITH_NUL = [
    ("POST", "/v1/recommend", {"user_id": NUL}),
    ("POST", "/v1/recommend", {"history": [NUL]}),
    ("POST", "/v1/recommend", {"history": [{"title": NUL}]}),
    ("POST", "/v1/recommend", {"where": {NUL: "x"}}),
    ("POST", "/v1/recommend", {"where": {"x": NUL}}),
    ("POST", "/v1/score", {"item_ids": [NUL]}),
    ("POST", "/v1/interactions", {"interactions": [{"user_id": NUL, "item_id": "m0001"}]}),
    ("POST", "/v1/interactions", {"interactions": [{"user_id": "u", "item_id": NUL}]}),
    ("PUT", "/v1/items", item(item_id=NUL)),
    ("PUT", "/v1/items", item(title=NUL)),
    ("PUT", "/v1/items", item(attributes={NUL: "x"})),
    ("PUT", "/v1/items", item(attributes={"x": NUL})),
    ("GET", "/v1/items?query=a%00b", None),
    ("GET", "/v1/users?query=a%00b", None),
    ("GET", "/v1/items/a%00b", None),
    ("GET", "/v1/users/a%00b", None),
]


def test_a_nul_is_a_422_wherever_it_stands(api):
    for method, path, body in WITH_NUL:
        answer = api.call(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code == 422 and answer.json()["errors"], (method, path, body, answer.text)
    assert api.store.items() == []


def test_odd_texts_come_back_as_they_went_in(api):
    for odd in (" ", "é" * 64, "e\u0301", "🎬", "'; DROP TABLE items; --", "%s", "\u202eabc"):
        told = {"interactions": [{"user_id": odd, "item_id": odd}]}
        assert api.call("POST", "/v1/interactions", json=told).json()["stored"] == 1
        assert api.call("PUT", "/v1/items", json=item(item_id=odd)).json()["added"] == 1
        answer = api.call("POST", "/v1/recommend", json={"history": [odd], "user_id": odd})
        assert answer.json()["user_id"] == odd and answer.json()["ignored"] == []


def test_nobody_who_reads_or_asks_waits_for_a_writer(api, written_elsewhere):
    async def work():
        with written_elsewhere("held"):
            body = {"items": [{"item_id": "held", "title": "Held"}]}
            told = {"interactions": [{"user_id": "u", "item_id": "m0001"}]}
            # More than the threads that all routes share.
            writes = [asyncio.ensure_future(api.send("PUT", "/v1/items", json=body))]
            writes += [
                asyncio.ensure_future(api.send("POST", "/v1/interactions", json=told))
                for _ in range(50)
            ]
            while api.service.kept.depth < 50 and not writes[0].done():
                await asyncio.sleep(0)
            reads = [
                await api.send("GET", "/v1/users/u"),
                await api.send("GET", "/v1/items"),
                await api.send("POST", "/v1/recommend", json={"user_id": "u"}),
            ]
            assert not writes[0].done()
        return reads, await asyncio.gather(*writes)

    reads, writes = asyncio.run(work())
    assert [a.status_code for a in reads] == [200] * 3
    # Where this machine was so busy that the first gave up, it is a 503 to come back to.
    assert {a.status_code for a in writes[1:]} == {200} and writes[0].status_code in (200, 503)
