"""The Dockerfile and compose.yaml, without a container engine: what they say, and what that does.

The Dockerfile's commands run in an empty folder, the compose file's services as processes: the server
as the user of the image, with a root that is read-only, where this process may arrange that.
"""

import contextlib
import json
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from sasrecllm.client import Client, ServerError

ROOT = Path(__file__).parents[2]
SLOW = 300
"""Seconds after which a process is taken for hung, on a machine however busy."""
SECRETS = {"SASRECLLM_API_KEY": "a-key-of-24-characters-ab", "POSTGRES_PASSWORD": "p w'd%/@:#"}
READ_ONLY = r"""
mount --make-rprivate /
mount --bind "$1" "$1"
awk '{print $5}' /proc/self/mountinfo | while read -r place; do
  case "$place" in "$1"|/proc*|/dev*|/sys*) ;; *) mount -o remount,bind,ro "$place" 2>/dev/null ;; esac
done
shift
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs \
  --inh-caps -all,+dac_read_search --ambient-caps -all,+dac_read_search \
  --bounding-set -all,+dac_read_search "$@"
"""
"""Takes a writable folder and a command, which runs as the image's user with all else read-only.

Its one right is to read everything: a Python in somebody's home is out of other users' reach; in the
image it is not.
"""


def instructions():
    """(name, rest of the line) of the Dockerfile, continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8")).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def stages():
    found = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def last(name):
    return [rest for said, rest in stages()[-1] if said == name][-1]


def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def filled_in(value, given):
    """A value of the compose file, as compose fills in ``${NAME:?why}``."""

    def of(found):
        if not given.get(found[1]):
            raise KeyError(f"{found[1]}: {found[2]}")
        return given[found[1]]

    return re.sub(r"\$\{(\w+):\?([^}]*)\}", of, str(value))


# ------------------------------------------------------------------------------------- what they say


def test_the_image_is_an_ordinary_users_and_asks_readyz_how_it_is():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))
    assert "/readyz" in last("HEALTHCHECK") and last("VOLUME") == "/models"
    assert json.loads(last("ENTRYPOINT")) == ["sasrecllm"]
    command = json.loads(last("CMD"))
    assert command[:2] == ["serve", "/models/current"] and "0.0.0.0" in command


def test_what_is_copied_is_there_and_not_kept_out():
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    assert kept[0] == "*"
    allowed = [line[1:] for line in kept if line.startswith("!")]
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    copied = [source for sources in copied if not sources[0].startswith("--") for source in sources]
    assert {"src", "configs", "constraints.txt", "pyproject.toml"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists()
        assert any(fnmatch(source, pattern) for pattern in allowed), source


def test_services_have_a_read_only_root_no_rights_and_a_volume_for_what_lasts():
    services = compose()["services"]
    for name, service in services.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and "/tmp" in service["tmpfs"]
        volumes = {volume.partition(":")[0] for volume in service["volumes"]}
        assert volumes <= set(compose()["volumes"]), name
        assert "privileged" not in service and service.get("user") not in ("root", 0, "0")
    assert services["server"]["volumes"] == ["models:/models"]
    assert services["server"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert services["server"]["ports"] == ["127.0.0.1:8000:8000"], "not for everybody on the network"


@pytest.mark.parametrize("missing", [*SECRETS, None])
def test_secrets_come_from_the_environment_and_without_one_nothing_starts(missing):
    given = SECRETS | ({missing: ""} if missing else {})
    secret = {"SASRECLLM_API_KEY", "PGPASSWORD", "POSTGRES_PASSWORD"}
    values = [
        (name, value)
        for service in compose()["services"].values()
        for name, value in service["environment"].items()
    ]
    assert secret <= {name for name, _ in values}
    assert all(value.startswith("${") for name, value in values if name in secret)
    if missing is None:
        assert all(filled_in(value, given) for _, value in values)
        return
    with pytest.raises(KeyError, match=missing):
        [filled_in(value, given) for _, value in values]


def test_no_package_index_and_no_other_host_is_named():
    for name in ("Dockerfile", "compose.yaml", ".dockerignore"):
        text = (ROOT / name).read_text("utf-8")
        hosts = set(re.findall(r"\w+://(?:[^\s/'\"@]*@)?([^\s/:'\"]+)", text))
        assert hosts <= {"127.0.0.1", "db"}, name
        assert not re.search(r"\b[\w-]+\.(org|com|io|net|dev)\b", text), name


# -------------------------------------------------------------------- the Dockerfile in an empty folder


def build(place, wanted):
    """Run the Dockerfile's ``wanted`` commands in ``place``, which stands for an empty root."""
    moved = [(name, place / name.strip("/")) for name in ("/opt/sasrecllm", "/models", "/build")]

    def here(text):
        for path, there in moved:
            text = text.replace(path, str(there))
        return text

    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    # How pip gets packages is the machine's, as a builder's network is.
    own = [name for name in os.environ if name.startswith("PIP_") and name != "PIP_CONSTRAINT"]
    environment |= {name: os.environ[name] for name in (*own, "HOME")}
    folder, ran = place, []
    for name, rest in instructions():
        if name == "FROM":
            folder = place
        elif name == "WORKDIR":
            folder = Path(here(rest))
            folder.mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            for pair in shlex.split(here(rest)):
                key, _, value = pair.partition("=")
                environment[key] = value.replace("$PATH", environment["PATH"])
        elif name == "COPY" and not rest.startswith("--from"):
            *sources, target = here(rest).split()
            for source in sources:
                copy(ROOT / source, folder / target)
        elif name == "RUN" and wanted(rest):
            command = ["sh", "-ec", here(rest)]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{rest}\n{done.stdout}{done.stderr}"
            ran.append(rest)
    return ran, environment


def copy(source, target):
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a folder of another user's is root's to make")


@as_root
def test_the_commands_that_install_nothing_run_in_an_empty_folder(tmp_path):
    ran, _ = build(tmp_path, lambda rest: "pip" not in rest and "doctor" not in rest)
    assert len(ran) == 2
    assert (tmp_path / "opt/sasrecllm/bin/python").exists()
    assert (tmp_path / "models").stat().st_uid == int(last("USER").partition(":")[0])
    assert (tmp_path / "opt/sasrecllm/configs/demo.yaml").is_file()
    assert (tmp_path / "build/src/sasrecllm/__init__.py").is_file()


@as_root
@pytest.mark.soak
def test_the_whole_dockerfile_gives_a_program_that_serves(tmp_path, run, postgres):
    ran, environment = build(tmp_path, lambda rest: True)
    assert len(ran) == 4
    program = tmp_path / "opt/sasrecllm/bin/sasrecllm"
    with services(run, postgres, [program], environment) as (client, _):
        assert len(client.recommend(history=[ITEM], k=3)) == 3


# ------------------------------------------------------------------ the compose file's services at work


ITEM = "m0001"  # of every made-up world


def user_of(run):
    """A user whom the run knows: its showcase names some, "warm user u0048"."""
    return next(iter(json.loads((run / "showcase.json").read_text()))).rpartition(" ")[2]


REHEARSED = (
    r"""awk '$5 == "/" && $6 !~ /^ro/ {bad = 1} END {exit bad}' /proc/self/mountinfo && "$0" -c ''"""
)


def confined_by(models):
    """What goes before a command that runs as the image's user on a read-only root; [] where it cannot.

    All of it is tried first: some machines have the programs and root, and allow a part of it.
    """
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount", "awk"))):
        return []
    before = ["unshare", "-m", "sh", "-ec", READ_ONLY, "sh", str(models)]
    tried = subprocess.run([*before, "sh", "-ec", REHEARSED, sys.executable], capture_output=True)
    return before if tried.returncode == 0 else []


@contextlib.contextmanager
def volume():
    """A folder that other users can reach, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="models-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def services(run, postgres, program, environment):
    """Both services of the compose file; a client of the server, and the server's process."""
    with volume() as models:
        yield from _services(models, run, postgres, program, environment)


def _services(models, run, postgres, program, environment):
    shutil.copytree(run, models / "tiny")
    (models / "current").symlink_to("tiny")
    (models / "tmp").mkdir()
    confined = confined_by(models)
    if confined:
        subprocess.run(["chown", "-R", last("USER"), models], check=True)
    server, db = compose()["services"]["server"], compose()["services"]["db"]
    made = {k: filled_in(v, SECRETS) for k, v in db["environment"].items()}
    with postgres(made["POSTGRES_USER"], made["POSTGRES_PASSWORD"], made["POSTGRES_DB"]) as (_, port):
        told = {k: filled_in(v, SECRETS) for k, v in server["environment"].items()}
        temporary = str(models / "tmp")
        more = {"PGHOSTADDR": "127.0.0.1", "PGPORT": str(port), "OMP_NUM_THREADS": "1"}  # where "db" is
        environment = environment | told | more | {"HOME": temporary, "TMPDIR": temporary}
        command = [*map(str, program), *json.loads(last("CMD")), "--port", "0", "--workers", "1"]
        command = [word.replace("/models", str(models)) for word in command]
        command = [*confined, *command]
        log = models.with_name(f"{models.name}.log")
        with log.open("w") as out:
            process = subprocess.Popen(
                command, env=environment, cwd=models, stdout=subprocess.PIPE, stderr=out, text=True
            )
        with contextlib.ExitStack() as stack:
            stack.callback(log.unlink)
            stack.callback(process.stdout.close)
            stack.callback(process.wait, SLOW)
            stack.callback(process.terminate)
            ready = select.select([process.stdout], [], [], SLOW)[0]
            found = re.search(r"http://0\.0\.0\.0:(\d+)", process.stdout.readline() if ready else "")
            assert found, log.read_text()
            process.environment, process.confined, process.log = environment, bool(confined), log
            yield Client(f"http://127.0.0.1:{found[1]}", SECRETS["SASRECLLM_API_KEY"], SLOW), process
            process.terminate()
            assert process.wait(SLOW) == 0, log.read_text()


@pytest.fixture(scope="module")
def at_work(run, postgres):
    program = [sys.executable, "-m", "sasrecllm"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src")}
    environment |= {"LOGNAME": "sasrecllm", "PYTHONDONTWRITEBYTECODE": "1"}
    with services(run, postgres, program, environment) as started:
        yield started


@pytest.mark.slow
def test_the_server_answers_keeps_feedback_in_postgresql_and_wants_its_key(at_work, run):
    client, process = at_work
    assert client.add_feedback("somebody", {ITEM: True})["stored"] == 1
    told = client.call("GET", "/v1/users/somebody")
    assert [entry["item_id"] for entry in told["history"]] == [ITEM]
    assert len(client.recommend(user_id="somebody", k=3)) == 3
    with pytest.raises(ServerError, match="401"):
        Client(client.url, "wrong-key-wrong-key").call("GET", "/readyz")
    assert not (run.parent / "tiny.sqlite").exists()
    assert re.search(r"INFO POST /v1/recommend 200 .* request=[0-9a-f]{32}", process.log.read_text())


@pytest.mark.slow
def test_the_health_check_is_the_images_own(at_work):
    client, process = at_work
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    words = [sys.executable, *(w.replace("http://127.0.0.1:8000", client.url) for w in command[1:])]
    good = subprocess.run(words, env=process.environment, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    wrong = process.environment | {"SASRECLLM_API_KEY": "wrong-key-wrong-key"}
    assert subprocess.run(words, env=wrong, capture_output=True).returncode != 0


@pytest.mark.slow
def test_the_server_is_an_ordinary_user_on_a_read_only_root_and_forgets_all_the_same(at_work, run):
    client, process = at_work
    if not process.confined:
        pytest.skip("a read-only root is made with unshare, mount and setpriv, by root")
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert re.search(r"Uid:\s+10001\s+10001\s+10001", status) and "NoNewPrivs:\t1" in status
    mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
    (root,) = {line.split()[5].split(",")[0] for line in mounts if line.split()[4] == "/"}
    assert root == "ro"
    user = user_of(run)
    client.forget(user)  # which writes in the volume
    with pytest.raises(ServerError, match="404"):
        client.forget(user)
