"""One name for a thing; the old names are taken for one more version, with a warning."""

import pytest

ANN = {"history": ["m0002"]}
BOTH = [  # path, as it is asked now, as it was asked
    ("/v1/recommend", {"user_id": "ann"}, {"user": "ann"}),
    ("/v1/score", {"item_ids": ["m0001"], "user_id": "ann"}, {"items": ["m0001"], "user": "ann"}),
    ("/v1/score", {"item_ids": ["m0001"]} | ANN, {"items": ["m0001"]} | ANN),
    ("/v1/explain", {"item_id": "m0001", "user_id": "ann"}, {"item": "m0001", "user": "ann"}),
    ("/v1/explain", {"item_id": "m0001"} | ANN, {"item": "m0001"} | ANN),
]


@pytest.mark.parametrize(("path", "now", "before"), BOTH)
def test_an_old_name_gets_the_same_answer_with_a_warning(api, path, now, before):
    new, old = (api.call("POST", path, json=body) for body in (now, before))
    assert new.status_code == old.status_code == 200, (new.text, old.text)
    assert new.json()["user_id"] == now.get("user_id") and "user" not in new.json()
    extra = {"user": "ann"} if "user" in before else {}
    assert old.json() == new.json() | extra
    assert "warning" not in new.headers and "deprecation" not in new.headers
    assert old.headers["deprecation"].startswith("@") and old.headers["warning"].startswith("299 ")
    for name in before.keys() - now.keys():
        assert f"{name} is " in old.headers["warning"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommend", {"user": "ann", "user_id": "ann"}),
        ("/v1/score", {"items": ["m0001"], "item_ids": ["m0001"]}),
        ("/v1/score", {"item_ids": ["m0001"], "item": "m0001"}),
        ("/v1/explain", {"item_id": "m0001", "item": "m0002"} | ANN),
        ("/v1/explain", {"items": "m0001"} | ANN),
        ("/v1/recommend", {"items": ["m0001"]}),
        ("/v1/recommend", {"user": "a\x00b"}),
        ("/v1/interactions", {"interactions": [{"user": "ann", "item_id": "m0001"}]}),
    ],
)
def test_two_names_for_one_thing_and_a_name_from_elsewhere_are_refused(api, path, body):
    answer = api.call("POST", path, json=body)
    assert answer.status_code == 422 and answer.json()["errors"]


def test_the_document_knows_the_new_names_alone(api):
    schemas = api.call("GET", "/openapi.json").json()["components"]["schemas"]
    asked = {n: set(schemas[f"{n}Request"]["properties"]) for n in ("Recommend", "Score", "Explain")}
    assert "user_id" in asked["Recommend"] and {"user_id", "item_ids"} <= asked["Score"]
    assert {"user_id", "item_id"} <= asked["Explain"]
    assert not {"user", "item", "items"} & set().union(*asked.values())
    for name, old in (("UsersFound", "users"), ("InteractionsKept", "unknown_items")):
        assert schemas[name]["properties"][old]["deprecated"] is True


def test_scores_carry_flags(api):
    new = {"items": [{"item_id": "n", "title": "New"}]}
    assert api.call("PUT", "/v1/items", json=new).status_code == 200
    scores = api.call("POST", "/v1/score", json={"item_ids": ["n", "m0001"]} | ANN).json()["scores"]
    assert [(s["item_id"], s["flags"]) for s in scores] == [("n", ["cold_item"]), ("m0001", [])]
