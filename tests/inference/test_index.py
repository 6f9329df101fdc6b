"""``recommend.index`` in a run: it may change there, says its recall, and stays when items come."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from sasrecllm import NewItem, SASRecLLM
from sasrecllm.config import load_config
from sasrecllm.errors import MissingExtraError
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.opening import open_run
from sasrecllm.stages.names import check_names

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture(scope="module")
def both(run, tmp_path_factory):
    """The run as it is, and a copy that its own command was given again with the index."""
    folder = tmp_path_factory.mktemp("index") / "tiny"
    shutil.copytree(run, folder)
    weights = sorted(path.read_bytes() for path in folder.glob("stages/*/parts/*/weights.safetensors"))
    run_all(open_run(folder, load_config(TINY, ["recommend.index=faiss"]), "test", quiet=True))
    assert weights == sorted(
        path.read_bytes() for path in folder.glob("stages/*/parts/*/weights.safetensors")
    )
    assert "recommend.index=faiss: recall" in (folder / "log.txt").read_text()
    return SASRecLLM.from_pretrained(run), SASRecLLM.from_pretrained(folder)


def test_a_small_catalogue_has_the_same_lists_with_either(both):
    exact, near = both
    assert exact.said_of_index == "" and "the mean of 64 users" in near.said_of_index
    users = np.arange(0, 100, 9)
    for rerank in (False, True):
        one, two = (
            s.recommend_many(s.dataset.latest(users), 10, 20, rerank=rerank) for s in (exact, near)
        )
        assert one.items.tolist() == two.items.tolist() and one.ranks.tolist() == two.ranks.tolist()
    by_score = [s.maker.by_score(s, 20).lists(s.dataset.latest(users), 10) for s in both]
    assert by_score[0].items.tolist() == by_score[1].items.tolist()


def test_a_run_is_refused_at_once_where_the_package_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="faiss-cpu") as refusal:
        check_names(load_config(TINY, ["recommend.index=faiss"]))
    assert refusal.value.remedy == 'pip install "sasrecllm[faiss]"'
    check_names(load_config(TINY))


def test_new_items_are_listed_beside_the_same_index(both):
    _, near = both
    more = near.with_items([NewItem("new", "A war at sea")])
    assert more.maker.encoder is near.maker.encoder
    listed = more.recommend(user=near.catalog.user_ids[3], only=["new", near.catalog.item_ids[0]])
    assert "new" in {line.item_id for line in listed}


def test_what_a_user_has_met_is_in_no_list_of_the_index(both):
    _, near = both
    for user in range(0, 60, 7):
        met = {line.item_id for line in near.history(user=near.catalog.user_ids[user])}
        listed = near.recommend(user=near.catalog.user_ids[user], rerank=False, k=30, seen="exclude")
        assert not met & {line.item_id for line in listed}
