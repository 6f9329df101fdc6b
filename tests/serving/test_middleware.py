"""Names, origins, paths and parameters: who is answered, and under which address."""

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.serving import security
from sasrecllm.serving.limits import RateLimit

KEY = "correct-horse-battery"
ASKED = [
    ("POST", "/v1/recommend", {"history": ["m0001"]}),
    ("POST", "/v1/score", {"item_ids": ["m0001"]}),
    ("POST", "/v1/explain", {"item_id": "m0001", "history": ["m0002"]}),
    ("POST", "/v1/interactions", {"interactions": [{"user_id": "u", "item_id": "m0001"}]}),
    ("PUT", "/v1/items", {"items": [{"item_id": "n", "title": "New"}]}),
    ("GET", "/v1/users/ann", None),
    ("GET", "/", None),
    ("GET", "/metrics", None),
]
FOREIGN = [
    "http://evil.example", "http://localhost:3000", "http://localhost.evil.example",
    "http://127.0.0.1", "null", "file://", "localhost", "http://localhost@evil.example", "http://[::1",
    "chrome-extension://abcdef", "http://localhost:99999",
]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_is_refused_on_every_route(make_api, origin):
    api = make_api(hosts=security.allowed_hosts("127.0.0.1"))
    for method, path, body in ASKED:
        more = {} if body is None else {"json": body}
        answer = api.call(method, path, headers={"Origin": origin}, **more)
        assert answer.status_code == 421 and "origin" in answer.json()["detail"], (path, answer.text)
        assert "access-control-allow-origin" not in answer.headers
        assert api.call(method, path, **more).status_code == 200  # as from curl
    assert [i.item_id for i in api.store.items()] == ["n"]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", "http://localhost:8000", 200),
        ("LocalHost", "http://localhost:80", 200),
        ("[::1]:8000", "http://[::1]:8000", 200),
        ("books.example.org", "https://books.example.org", 200),
        ("books.example.org", "https://books.example.org:443", 200),
        ("127.0.0.1:8000", "https://books.example.org:8443", 200),  # the proxy's name, its own Host
        ("127.0.0.1:8000", "https://other.example.org", 421),
        ("127.0.0.1:8000", "https://evil-books.example.org", 421),
        ("127.0.0.1:8000", "http://127.0.0.1:9000", 421),
    ],
)
def test_its_own_pages_are_answered_behind_a_proxy_too(make_api, host, origin, status):
    api = make_api(hosts=security.allowed_hosts("127.0.0.1", ["Books.example.org"]))
    answer = api.call("POST", "/v1/recommend", json={}, headers={"Host": host, "Origin": origin})
    assert answer.status_code == status, answer.text


def test_a_public_server_answers_under_any_name_unless_names_are_given(make_api):
    everywhere = make_api(hosts=security.allowed_hosts("0.0.0.0"))
    named = make_api(hosts=security.allowed_hosts("0.0.0.0", ["a.example", "b.example", "::2"]))
    for host, status in {"a.example": 200, "B.EXAMPLE:81": 200, "[::2]": 200, "c.example": 421}.items():
        assert everywhere.call("GET", "/readyz", headers={"Host": host}).status_code == 200
        assert named.call("GET", "/readyz", headers={"Host": host}).status_code == status
    own = {"Host": "a.example:80", "Origin": "http://a.example"}
    assert everywhere.call("POST", "/v1/recommend", json={}, headers=own).status_code == 200
    other = {"Host": "a.example", "Origin": "http://c.example"}
    assert everywhere.call("POST", "/v1/recommend", json={}, headers=other).status_code == 421


@pytest.mark.parametrize(
    "name", ["http://a.example", "a.example:80", "a/b", "", "*", "a b", "a..b", "[1"]
)
def test_what_is_no_host_name_is_refused_before_anything_starts(name):
    with pytest.raises(ConfigError, match="--allowed-host"):
        security.allowed_hosts("127.0.0.1", [name])


def test_a_name_in_another_script_is_taken_as_browsers_send_it():
    assert "xn--bcher-kva.example" in security.allowed_hosts("127.0.0.1", ["bücher.example"])


def test_head_is_get_without_a_body(make_api):
    api = make_api(key=KEY)
    headers = {"X-API-Key": KEY}
    paths = ("/healthz", "/readyz", "/metrics", "/v1/items", "/v1/items/m0001", "/v1/users/ann", "/")
    for path in paths:
        got, head = (api.call(method, path, headers=headers) for method in ("GET", "HEAD"))
        assert head.status_code == got.status_code == 200 and head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]
        assert path == "/metrics" or head.headers["content-length"] == got.headers["content-length"]
    assert api.call("HEAD", "/healthz").status_code == 200
    assert api.call("HEAD", "/readyz").status_code == 401
    assert api.call("HEAD", "/nowhere", headers=headers).status_code == 404
    refused = api.call("HEAD", "/v1/recommend", headers=headers)
    assert refused.status_code == 405 and refused.headers["allow"] == "POST"
    answer = api.call("POST", "/v1/items", headers=headers)
    assert answer.headers["allow"] == "GET, HEAD, PUT" and "GET, HEAD, PUT" in answer.json()["detail"]
    assert "/openapi.json" in api.call("GET", "/nowhere", headers=headers).json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "where"),
    [
        ("GET", "/v1/items?qery=sea", "query.qery"),
        ("GET", "/v1/items?query=sea&limit=3&offset=3", "query.offset"),
        ("GET", "/v1/items?limit=3&limit=4", "query.limit"),
        ("GET", "/v1/items/m0001?limit=3", "query.limit"),
        ("GET", "/v1/users?q=a", "query.q"),
        ("GET", "/v1/users/ann?limit=3", "query.limit"),
        ("POST", "/v1/recommend?k=3", "query.k"),
        ("POST", "/v1/score?user=ann", "query.user"),
        ("PUT", "/v1/items?dry=1", "query.dry"),
    ],
)
def test_a_parameter_that_nobody_reads_is_a_422_that_names_it(api, method, path, where):
    body = {"items": [{"item_id": "n", "title": "N"}]} if method == "PUT" else {"items": ["m0001"]}
    more = {} if method == "GET" else {"json": {} if "recommend" in path else body}
    answer = api.call(method, path, **more)
    assert answer.status_code == 422 and answer.json()["errors"][0]["where"] == where
    assert api.store.items() == []


def test_an_address_that_is_not_utf8_is_a_400(api):
    for path in ("/v1/users/%ff", "/v1/users/%ed%a0%80", "/v1/items?query=%c3%28"):
        assert api.call("GET", path).status_code == 400, path
    assert api.call("GET", "/v1/users/%c3%bc").json()["user_id"] == "ü"


def test_under_a_proxys_path_everything_answers_with_it_and_without(make_api):
    api = make_api(key=KEY, doors={"root": security.root_path("books/")})
    headers = {"X-API-Key": KEY}
    for prefix in ("", "/books"):
        assert api.call("GET", f"{prefix}/healthz").status_code == 200
        assert api.call("GET", f"{prefix}/readyz").status_code == 401
        assert api.call("GET", f"{prefix}/v1/items/m0001", headers=headers).json()["item_id"] == "m0001"
        assert api.call("POST", f"{prefix}/v1/recommend", headers=headers, json={}).status_code == 200
        page = api.call("GET", f"{prefix}/", headers=headers).text
        for link in ('src="/books/page.js"', 'href="/books/page.css"', 'href="/books/openapi.json"'):
            assert link in page
        document = api.call("GET", f"{prefix}/openapi.json", headers=headers).json()
        assert document["servers"] == [{"url": "/books"}] and "/v1/items" in document["paths"]
        not_json = {"X-API-Key": KEY, "Content-Type": "application/json"}
        bad = api.call("POST", f"{prefix}/v1/recommend", content=b"{", headers=not_json)
        assert bad.status_code == 400
    moved = api.call("GET", "/books", headers=headers)
    assert moved.status_code == 308 and moved.headers["location"] == "/books/"
    assert api.call("GET", "/bookshelf/healthz", headers=headers).status_code == 404
    assert 'route="/v1/items/{item_id:path}"' in api.call("GET", "/metrics", headers=headers).text


@pytest.mark.parametrize("path", ["//evil.example", "/a//b", "/a b", "/a?b", "/ü", "/../a", "/a%20b"])
def test_what_is_no_path_is_refused_before_anything_starts(path):
    if path == "//evil.example":  # a browser would take it for a host
        assert security.root_path(path) == "/evil.example"
        return
    with pytest.raises(ConfigError, match="--root-path"):
        security.root_path(path)


def test_wrong_keys_are_held_back_and_a_right_one_is_not(make_api):
    now = [0.0]
    limit = RateLimit(1.0, burst=5, clock=lambda: now[0])
    api = make_api(key=KEY, doors={"wrong_keys": limit})
    wrong, right = {"Authorization": "Bearer not-the-key-at-all"}, {"X-API-Key": KEY}
    answers = [api.call("GET", "/v1/items", headers=wrong) for _ in range(9)]
    assert [a.status_code for a in answers] == [401] * 5 + [429] * 4
    assert answers[-1].headers["retry-after"] == "1" and "wrong keys" in answers[-1].json()["detail"]
    assert api.call("GET", "/v1/items", headers=right).status_code == 200
    assert api.call("GET", "/v1/items").status_code == 401  # who gives none is only asked for one
    assert api.call("GET", "/healthz", headers=wrong).status_code == 200
    now[0] = 2.0
    again = [api.call("GET", "/", headers=wrong).status_code for _ in range(3)]
    assert again == [401, 401, 429]


def test_a_server_holds_wrong_keys_back_without_being_told(launch):
    import httpx

    server = launch(**{security.KEY_VARIABLE: KEY})
    with httpx.Client(base_url=server.url) as client:
        wrong = [client.get("/readyz", headers={"X-API-Key": f"{KEY}{n}"}) for n in range(300)]
        assert 401 in {a.status_code for a in wrong} and 429 in {a.status_code for a in wrong}
        held = next(a for a in wrong if a.status_code == 429)
        assert int(held.headers["retry-after"]) >= 1
        assert client.get("/readyz", headers={"X-API-Key": KEY}).status_code == 200


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--allowed-host", "a.example", "--allowed-host", "http://b.example"], "'http://b.example'"),
        (["--root-path", "/a?b"], "'/a?b'"),
        (["--timeout", "0"], "--timeout"),
    ],
)
def test_the_command_refuses_what_is_no_name_or_path_before_it_loads(cli, tmp_path, flags, said):
    assert said in cli("serve", tmp_path / "none", *flags, expect=2)
