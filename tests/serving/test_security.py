"""Who gets in: keys, binds, host names; and that the key is seen nowhere."""

import base64
import os
import subprocess
import sys

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.serving import security
from sasrecllm.serving.run import serve

KEY = "correct-horse-battery"


def test_a_network_address_without_a_key_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv(security.KEY_VARIABLE, raising=False)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", ""):
        with pytest.raises(ConfigError, match="no key"):
            serve(tmp_path, host=host, port=0)
    for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1"):
        security.check_bind(host, None)
    security.check_bind("0.0.0.0", KEY)


def test_the_command_ends_with_code_2_before_it_loads_anything(tmp_path):
    command = [sys.executable, "-m", "sasrecllm", "serve", tmp_path / "none", "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and security.KEY_VARIABLE in done.stderr
    done = subprocess.run(command[:-2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 5 and "not a finished run folder" in done.stderr


def test_keys_come_from_file_or_environment(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert security.read_key(file, {security.KEY_VARIABLE: "another-key-entirely"}) == KEY
    assert security.read_key(None, {security.KEY_VARIABLE: KEY}) == KEY
    assert security.read_key(None, {}) is None
    for bad in ("", "short", "with space in the middle", "schlüssel-mit-umlaut"):
        with pytest.raises(ConfigError, match="16"):
            security.read_key(None, {security.KEY_VARIABLE: bad})
    with pytest.raises(ConfigError, match="cannot be read"):
        security.read_key(tmp_path / "missing", {})


def basic(password):
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


GOOD = [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}, basic(KEY)]
BAD = [
    {},
    {"Authorization": "Bearer wrong-key-of-some-length"},
    {"Authorization": f"Bearer {KEY[:-1]}"},
    {"Authorization": f"Bearer {KEY}x"},
    {"Authorization": KEY},
    {"Authorization": "Bearer"},
    {"Authorization": "Basic %%%"},
    {"X-API-Key": ""},
    {"X-API-Key": b"\xff\xfe"},
    {"Cookie": f"key={KEY}"},
    basic(KEY[:-1]),
    basic(""),
]


def test_with_a_key_every_route_but_health_needs_it(make_api):
    api = make_api(key=KEY)
    document = api.call("GET", "/openapi.json", headers=GOOD[0]).json()
    routes = [(m.upper(), p) for p, operations in document["paths"].items() for m in operations]
    assert len(routes) >= 11
    assert "401" in document["paths"]["/v1/score"]["post"]["responses"]
    routes += [
        ("GET", p) for p in ("/", "/openapi.json", "/docs", "/nowhere", "/healthz/", "/index.html")
    ]
    for method, path in routes:
        for headers in BAD:
            answer = api.call(method, path, headers=headers, params={"key": KEY, "api_key": KEY})
            assert answer.status_code == (200 if path == "/healthz" else 401), (method, path)
            assert path == "/healthz" or "www-authenticate" in answer.headers
    for headers in GOOD:
        assert api.call("GET", "/metrics", headers=headers).status_code == 200
        assert api.call("POST", "/v1/recommend", headers=headers, json={}).status_code == 200


def test_a_stranger_s_body_is_not_even_read(make_api):
    api = make_api(key=KEY)
    assert (
        api.call("POST", "/v1/recommend", content=b"{" * 10, headers={"X-API-Key": "no"}).status_code
        == 401
    )


def test_the_key_is_in_no_log_and_no_answer(launch):
    import httpx

    server = launch(**{security.KEY_VARIABLE: KEY})
    with httpx.Client(base_url=server.url) as client:
        texts = [client.get("/", headers=h, params={"key": KEY}).text for h in [*GOOD, *BAD]]
        texts.append(client.post("/v1/recommend", headers=GOOD[0], content=b"not json").text)
        texts.append(client.get("/openapi.json", headers=GOOD[0]).text)
    log = server.end()
    assert KEY not in log and not any(KEY in text for text in texts)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8000", 200), ("127.0.0.1:1", 200), ("[::1]:80", 200),
        ("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.nip.io", 421),
        ("", 421), ("localhost:80@evil", 421), ("0.0.0.0", 421),
    ],
)  # fmt: skip
def test_a_loopback_server_answers_only_under_its_own_names(make_api, host, status):
    api = make_api(hosts=security.allowed_hosts("127.0.0.1"))
    assert api.call("GET", "/readyz", headers={"Host": host}).status_code == status
    assert security.allowed_hosts("0.0.0.0") is None


@pytest.mark.skipif(os.name != "posix", reason="rights of files as POSIX has them")
def test_a_key_file_that_others_can_read_is_used_with_a_warning(tmp_path, caplog):
    file = tmp_path / "key"
    file.write_text(KEY)
    for rights, warned in ((0o600, False), (0o400, False), (0o640, True), (0o604, True)):
        caplog.clear()
        file.chmod(rights)
        assert security.read_key(file, {}) == KEY
        assert ("chmod 600" in caplog.text and str(file) in caplog.text) == warned
        assert KEY not in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="rights of files as POSIX has them")
def test_the_way_to_make_a_key_file_makes_one_for_its_owner_alone(tmp_path):
    file = tmp_path / "key"
    with pytest.raises(ConfigError) as refusal:
        security.read_key(file, {})
    command = refusal.value.remedy.partition("make one: ")[2]
    subprocess.run(command.replace("python", sys.executable), shell=True, check=True, timeout=300)
    assert file.stat().st_mode & 0o777 == 0o600 and len(security.read_key(file, {})) >= 32
