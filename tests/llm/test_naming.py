"""Whether a hub can be asked: its own port, a proxy, and HF_HUB_OFFLINE in every spelling."""

import os
import socket
import subprocess
import sys

import pytest
from huggingface_hub import constants

from sasrecllm.errors import ModelNotFoundError
from sasrecllm.llm.naming import refuse_unreachable

MODEL = "nobody/no-such-model"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A host of this machine that takes connections on a port of its own, and its address."""
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    real = socket.create_connection

    def at_home(address, *arguments, **options):
        assert address[0] == "127.0.0.1", f"{address} is not this machine"
        return real(address, *arguments, **options)

    monkeypatch.setattr(socket, "create_connection", at_home)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        yield server


def test_a_mirror_is_asked_at_its_own_port(hub):
    refuse_unreachable(MODEL)
    hub.close()
    with pytest.raises(
        ModelNotFoundError, match=rf"the hub \({constants.ENDPOINT}\) cannot be reached"
    ):
        refuse_unreachable(MODEL)


@pytest.mark.parametrize(
    ("variables", "endpoint", "through"),
    [
        ({"http_proxy": "http://127.0.0.1:9"}, "http", True),
        ({"HTTPS_PROXY": "http://127.0.0.1:9"}, "https", True),
        ({"all_proxy": "http://127.0.0.1:9"}, "https", True),
        ({"https_proxy": "http://127.0.0.1:9"}, "http", False),  # of the other scheme
        ({"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}, "http", False),
        ({"all_proxy": "http://127.0.0.1:9", "NO_PROXY": "*"}, "https", False),
    ],
)
def test_behind_a_proxy_the_hub_itself_need_not_answer(hub, monkeypatch, variables, endpoint, through):
    hub.close()
    port = constants.ENDPOINT.rpartition(":")[2]
    monkeypatch.setattr(constants, "ENDPOINT", f"{endpoint}://127.0.0.1:{port}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if through:
        refuse_unreachable(MODEL)
        return
    with pytest.raises(ModelNotFoundError, match="cannot be reached"):
        refuse_unreachable(MODEL)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:many", "http://127.0.0.1:99999", "nowhere", ""])
def test_an_endpoint_that_is_no_address_is_one_that_does_not_answer(hub, monkeypatch, endpoint):
    def refused(address, *_, **__):
        raise OSError(f"no such host: {address}")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    with pytest.raises(ModelNotFoundError, match="cannot be reached"):
        refuse_unreachable(MODEL)


def test_a_hub_that_may_not_be_asked_is_not(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE is on") as refused:
        refuse_unreachable(MODEL)
    assert refused.value.exit_code == 4
    hub.settimeout(0)
    with pytest.raises(BlockingIOError):
        hub.accept()  # nobody came


@pytest.mark.parametrize("value", ["true", "ON"])
def test_offline_is_spelt_as_the_hubs_library_reads_it(value, tmp_path):
    code = (
        "from sasrecllm.llm.naming import refuse_unreachable\n"
        f"try: refuse_unreachable({MODEL!r})\n"
        "except Exception as error: print(error)"
    )
    env = os.environ | {"HF_HUB_OFFLINE": value, "HF_HOME": str(tmp_path)}
    env |= {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "no hub is asked" in done.stdout, done.stderr
