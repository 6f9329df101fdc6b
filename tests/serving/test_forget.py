"""DELETE /v1/users/{id}: nobody hears of the user again, whatever happens on the way."""

import asyncio
import shutil

import pytest

from sasrecllm.errors import CheckpointError, DataError, ResourceError
from sasrecllm.forget import forget
from sasrecllm.serving.app import Service, create_app
from sasrecllm.serving.state import ServingState, load_run
from sasrecllm.serving.store import Interaction, SqliteStore


class Folder:
    """A run folder of the made-up model, from which users can be taken."""

    def __init__(self, fake):
        self.fake, self.gone, self.fails, self.broken = fake, set(), None, False

    def load(self):
        if self.broken:
            raise CheckpointError("the run is damaged", "mend it")
        return self.fake.without(self.fake.loaded(), self.gone)

    def forget(self, users, told):
        if self.fails:
            raise self.fails
        if not set(users) <= {"ann", "bob"} - self.gone | set(told):
            raise DataError("unknown", "give another")
        self.gone |= set(users)


@pytest.fixture
def folder(fake):
    return Folder(fake)


@pytest.fixture
def api(make_api, folder):
    return make_api(load=folder.load, forget=folder.forget)


def asked(api, user):
    """What every route says of a user."""
    body = {"user_id": user, "history": ["m0003"]}
    listed = api.call("GET", "/v1/users", params={"query": user}).json()["user_ids"]
    shown = api.call("GET", f"/v1/users/{user}").json()
    scored = api.call("POST", "/v1/score", json=body | {"item_ids": ["m0005"]}).json()["scores"]
    return listed, shown["known"], shown["history"], scored[0]["probability"]


def test_the_next_answer_knows_nothing_of_who_was_deleted(api, folder):
    api.store.add_interactions([Interaction("ann", "m0007", True), Interaction("bob", "m0008", True)])
    bob = asked(api, "bob")
    listed, known, history, scored = asked(api, "ann")
    assert listed == ["ann"] and known and history
    answer = api.call("DELETE", "/v1/users/ann")
    assert (answer.status_code, answer.json()) == (200, {"user_id": "ann", "forgotten": True})
    stranger = asked(api, "nobody")
    assert asked(api, "ann") == stranger and scored != stranger[3]
    assert asked(api, "bob") == bob and folder.gone == {"ann"}
    assert api.store.users_among(["ann", "bob"]) == {"bob"}
    assert api.call("GET", "/v1/users").json()["user_ids"] == ["bob"]
    assert api.call("DELETE", "/v1/users/ann").status_code == 404  # and changes nothing
    assert asked(api, "bob") == bob


def test_a_user_of_the_store_alone_can_be_deleted_and_a_stranger_is_a_404(api):
    api.store.add_interactions([Interaction("eve/1 ?", "m0007", True)])
    assert api.call("DELETE", "/v1/users/eve%2F1%20%3F").status_code == 200
    assert api.store.users_among(["eve/1 ?"]) == set()
    answer = api.call("DELETE", "/v1/users/nobody")
    assert answer.status_code == 404 and "neither the run nor the store" in answer.json()["detail"]
    assert api.call("DELETE", "/v1/users/a%00b").status_code == 422


def test_where_the_run_cannot_be_changed_nothing_is(api, folder):
    api.store.add_interactions([Interaction("ann", "m0007", True)])
    before = asked(api, "ann")
    folder.fails = ResourceError("the disk is full", "free some space")
    assert api.call("DELETE", "/v1/users/ann").status_code == 503
    assert asked(api, "ann") == before
    folder.fails = None
    assert api.call("DELETE", "/v1/users/ann").status_code == 200


def test_a_run_that_cannot_be_loaded_anew_is_served_without_the_user(api, folder):
    folder.broken = True
    assert api.call("DELETE", "/v1/users/ann").status_code == 200
    assert asked(api, "ann") == asked(api, "nobody")
    assert api.call("GET", "/v1/users").json()["user_ids"] == ["bob"]
    new = {"items": [{"item_id": "n1", "title": "New"}]}
    assert api.call("PUT", "/v1/items", json=new).status_code == 200
    assert asked(api, "ann") == asked(api, "nobody")  # no later change brings him back
    assert "damaged" in api.call("GET", "/readyz").json()["reload_error"]


def test_a_server_that_cannot_change_its_run_says_so(make_api):
    api = make_api()
    api.store.add_interactions([Interaction("eve", "m0007", True)])
    assert api.call("DELETE", "/v1/users/eve").status_code == 200
    answer = api.call("DELETE", "/v1/users/ann")
    assert answer.status_code == 501 and "sasrecllm forget" in answer.json()["detail"]
    assert asked(api, "ann")[1]


def test_a_reload_that_began_before_does_not_bring_the_user_back(api, folder):
    async def both():
        reload = asyncio.create_task(api.service.reload())
        await asyncio.sleep(0)  # let it begin
        await api.service.forget("ann")
        await reload

    asyncio.run(both())
    assert asked(api, "ann") == asked(api, "nobody")


def test_a_trained_run_is_changed_on_disk_and_served_without_the_user(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    store = SqliteStore(tmp_path / "s.sqlite")

    def from_run(users, told):
        forget(own, users, told)

    state = ServingState(lambda: load_run(own, 1), store, from_run)
    service = Service(state)
    create_app(service)
    user, other = state.current.catalog.user_ids[3:5]
    ask = {"history": [], "user": other, "k": 3, "strict": False}
    was = [line.item_id for line in state.current.system.recommend(**ask)]
    state.store.add_interactions([Interaction(user, "m0001", True)])
    asyncio.run(service.forget(user))
    assert not state.current.knows(user) and not state.current.forgotten  # loaded anew
    assert user not in state.current.catalog.user_ids and state.store.users_among([user]) == set()
    assert [line.item_id for line in state.current.system.recommend(**ask)] == was
    service.close()
    store.close()
