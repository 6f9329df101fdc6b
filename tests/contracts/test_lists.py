"""One two-stage scorer: ranking tables, Python, batch files and HTTP answer with the same lists."""

import asyncio
import json
from dataclasses import replace

import httpx
import numpy as np
import polars as pl
import pytest

from sasrecllm import SASRecLLM
from sasrecllm.batch.jobs import recommend_all
from sasrecllm.data.candidates import free_items
from sasrecllm.inference.requests import NewItem, Title
from sasrecllm.inference.wishes import Wishes
from sasrecllm.pipeline.ranking_table import row_scorers
from sasrecllm.runs.opening import reopen_run
from sasrecllm.runs.system import System
from sasrecllm.serving.app import Service, create_app
from sasrecllm.serving.state import Loaded, ServingState
from sasrecllm.serving.store import SqliteStore
from sasrecllm.types import UNKNOWN

K, COUNT = 3, 3  # so few candidates that the first stage decides too
USERS = range(0, 120, 8)
THEME = "theme"
WISHES = {
    "none": {},
    "filters": {"exclude": ["m0003", "m0005", "m0007"], "where": {THEME: "war"}},
    "boost": {"boost": {THEME: {"war": 50.0, "sea": 0.02}}},
    "diversity": {"diversity": 0.6, "retrieve": 30},
    "all": {
        "exclude": ["m0003"], "boost": {THEME: "war"}, "diversity": 0.3, "seen": "allow",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def system(run):
    system = SASRecLLM.from_pretrained(run)
    new = (~system.maker.has_vector).sum()
    assert new > COUNT, "the world has more items without a vector than may enter by their words"
    return system


@pytest.fixture(scope="module")
def lists(system):
    """Wishes by name -> user id -> list of (item, P(like)), as Python is answered."""
    ids = [system.catalog.user_ids[u] for u in USERS]
    found = {
        name: {
            user: system.recommend(user=user, **{"k": K, "retrieve": COUNT} | wishes) for user in ids
        }
        for name, wishes in WISHES.items()
    }
    plain = found["none"]
    assert any(line.retrieval_rank is None for lines in plain.values() for line in lines)
    for name in WISHES.keys() - {"none"}:
        changed = [user for user in ids if found[name][user] != plain[user]]
        assert len(changed) > len(ids) / 3, f"{name}: a wish that changes nothing proves nothing"
    return {
        name: {user: [(r.item_id, r.probability) for r in lines] for user, lines in of_users.items()}
        for name, of_users in found.items()
    }


def test_the_ranking_tables_order(run, system, lists):
    wanted = lists["none"]
    opened = reopen_run(run, quiet=True)
    c = opened.config
    ranking = c.evaluation.ranking.model_copy(update={"rerank": COUNT})
    config = c.model_copy(update={"evaluation": c.evaluation.model_copy(update={"ranking": ranking})})
    parts = System.load(opened.folder, config=c)
    *_, final = row_scorers(replace(opened, config=config), parts, whole=True)
    known = system.dataset.latest(np.array(USERS))  # asked now, as `recommend` does
    known = replace(known, asked_at=np.maximum(known.asked_at, system.dataset.now))
    free = free_items(known, np.ones(system.catalog.n_items, dtype=bool), seen=False)
    items = np.where(free, np.arange(system.catalog.n_items), UNKNOWN)
    order = np.argsort(-final.score(known, items), axis=1, kind="stable")[:, :K]
    for b, lines in enumerate(wanted.values()):
        assert [system.catalog.item_id(items[b, at]) for at in order[b]] == [i for i, _ in lines]


@pytest.mark.parametrize("name", WISHES)
def test_a_batch_file(run, lists, alike, tmp_path, name):
    wanted, wishes = lists[name], WISHES[name]
    pl.DataFrame({"user_id": list(wanted)}).write_csv(tmp_path / "users.csv")
    out = tmp_path / "lists.parquet"
    count = wishes.get("retrieve", COUNT)
    of_users = {"k": K, "retrieve": count, "wishes": Wishes.among(wishes)}
    recommend_all(run, tmp_path / "users.csv", out, **of_users)
    answered = []
    for (user,), lines in pl.read_parquet(out).group_by("user_id"):
        got = lines.sort("rank").select("item_id", "probability").rows()
        alike(got, wanted[user])
        answered.append(user)
    assert sorted(answered) == sorted(user for user, lines in wanted.items() if lines)


def answers(system, users, items=(), **wishes):
    """User id -> what the server answers, after it was told of ``items``."""
    store = SqliteStore(":memory:")
    state = ServingState(lambda: Loaded(system, "tiny", "digest", NewItem, Title), store)
    service = Service(state, 64, retrieve=COUNT)

    async def all_of_them():
        transport = httpx.ASGITransport(create_app(service, None, None, None))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            if items:
                told = await client.put("/v1/items", json={"items": list(items)})
                assert told.json()["added"] == len(items)
            asked = {
                user: client.post("/v1/recommend", json={"user_id": user, "k": K} | wishes)
                for user in users
            }
            return {user: (await answer).json() for user, answer in asked.items()}

    try:
        found = asyncio.run(all_of_them())
    finally:
        service.close()
        store.close()
    lines = {user: answer["recommendations"] for user, answer in found.items()}
    return {user: [(r["item_id"], r["probability"]) for r in lines[user]] for user in lines}


@pytest.mark.parametrize("name", WISHES)
def test_the_server(system, lists, alike, name):
    for user, got in answers(system, lists[name], **WISHES[name]).items():
        alike(got, lists[name][user])


def test_the_shell(run, lists, alike, cli):
    user = next(iter(lists["all"]))
    flags = ["--exclude", "m0003", "--boost", f"{THEME}=war", "--diversity", "0.3", "--seen", "allow"]
    said = cli("recommend", run, "--user", user, "-k", K, "--retrieve", COUNT, *flags, "--json")
    ((_, lines),) = json.loads(said).items()
    alike([(line["item_id"], line["probability"]) for line in lines], lists["all"][user])


def test_the_server_lists_a_new_item_from_the_next_answer_on_as_python_does(system, lists, alike):
    """Named like what many like, so that some users have it among their first three."""
    likes = system.parts.train_rows.means.likes
    titles = [system.catalog.titles[i] for i in np.argsort(-likes)[:3]]
    items = [{"item_id": f"later {n}", "title": title} for n, title in enumerate(titles)]
    grown = system.with_items([NewItem(i["item_id"], i["title"]) for i in items])
    # As if what is new were wanted, for K places are few.
    fusion = replace(grown.fusion, new=grown.fusion.new.with_offset(5.0))
    eager = replace(system.fusion, new=system.fusion.new.with_offset(5.0))
    grown = SASRecLLM(grown.parts, grown.scorer, grown.calibration, grown.catalog, fusion)
    base = SASRecLLM(system.parts, system.scorer, system.calibration, system.catalog, eager)
    listed = set()
    for user, got in answers(base, lists["none"], items).items():
        expected = grown.recommend(user=user, k=K, retrieve=COUNT)
        alike(got, [(r.item_id, r.probability) for r in expected])
        listed |= {r.item_id for r in expected}
    assert any(item.startswith("later") for item in listed)
