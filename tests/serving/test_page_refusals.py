"""What the page says when it is refused, and what it makes of odd answers; on the made-up model."""

from __future__ import annotations

import json
import re

import pytest

KEY = "a-key-that-only-this-test-knows"
EVIL = "<img src=x onerror=alert(1)> The General"


@pytest.fixture
def blank(browser):
    """An empty tab; a dialog is its fault."""
    context = browser.new_context()
    page = context.new_page()
    dialogs = []
    page.on("dialog", lambda d: (dialogs.append(d.message), d.dismiss()))
    yield page
    assert dialogs == []
    context.close()


@pytest.fixture
def page(blank, url):
    blank.goto(url)
    blank.locator("#both > li").first.wait_for()
    return blank


def test_a_title_in_the_lists_is_only_text(page):
    def with_evil(route):
        answer = route.fetch()
        told = answer.json()
        for line in told["recommendations"]:
            line |= {"title": EVIL, "flags": ["<img src=x onerror=alert(4)>"]}
        route.fulfill(response=answer, json=told)

    page.route("**/v1/recommend", with_evil)
    page.get_by_role("button", name="Start again").click()
    page.wait_for_function("t => document.querySelector('#both .title').textContent === t", arg=EVIL)
    assert "onerror=alert(4)" in page.inner_text("#flags") and page.locator("img").count() == 0


def test_sasrecs_own_list_stands_beside_with_each_titles_place_in_the_other(page):
    lists = {}

    def without_second(route):
        answer, reranks = route.fetch(), route.request.post_data_json.get("rerank", True)
        lines = [x for x in answer.json()["recommendations"] if not reranks or x["retrieval_rank"] != 2]
        lists[reranks] = lines
        route.fulfill(response=answer, json=answer.json() | {"recommendations": lines})

    page.route("**/v1/recommend", without_second)
    page.get_by_role("button", name="Start again").click()
    page.locator("#alone", has_text="behind the first").wait_for()
    places = {x["item_id"]: x["rank"] for x in lists[True]}
    rows = page.locator("#alone > li")
    assert rows.locator(".rank").all_inner_texts() == [str(n) for n in range(1, 11)]
    assert rows.locator(".title").all_inner_texts() == [x["title"] for x in lists[False]]
    for n, line in enumerate(lists[False]):
        place = places.get(line["item_id"], f"behind the first {len(lists[True])}")
        assert f"SASRecLLM: {place}" in rows.nth(n).inner_text() and (n == 1) == isinstance(place, str)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 503, "detail": "the model is busy"}, "the model is busy; try again in 5 s"),
        ({"status": 422, "detail": "no", "errors": [{"where": "body.k", "what": "odd"}]}, "no: odd"),
        (None, "The server does not answer"),
    ],
)
def test_an_error_is_said_in_words_in_the_live_region(page, answer, said):
    def fail(route):
        if answer is None:
            return route.abort()
        headers = {"retry-after": "5"} if answer["status"] == 503 else {}
        kind = "application/problem+json"
        text = json.dumps(answer)
        return route.fulfill(status=answer["status"], headers=headers, content_type=kind, body=text)

    page.route("**/v1/recommend", fail)
    page.locator("#both [data-does=like]").first.click()
    page.wait_for_function("t => document.querySelector('#status').innerText.includes(t)", arg=said)
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    assert page.locator("#key-form").is_hidden()


@pytest.fixture
def keyed_url(fake_server_in, tmp_path):
    server = fake_server_in(tmp_path, SASRECLLM_API_KEY=KEY)
    yield server.url
    server.stop()


def test_the_key_is_asked_for_only_after_a_401_and_then_sent(blank, keyed_url):

    def with_key(route):  # the files of the page come through; its questions need its own key
        route.continue_(headers=route.request.headers | {"x-api-key": KEY})

    blank.route(re.compile(r"/$|\.js$|\.css$"), with_key)
    blank.goto(keyed_url)
    blank.locator("#key-form").wait_for()
    # The form comes before the words do.
    blank.wait_for_function(
        "() => document.querySelector('#status').innerText.includes('wants its key')"
    )
    blank.fill("#key", "a-key-of-another-house")
    blank.keyboard.press("Enter")
    blank.wait_for_function("() => document.querySelector('#status').innerText.includes('not this')")
    blank.fill("#key", KEY)
    blank.keyboard.press("Enter")
    blank.locator("#both > li").first.wait_for()
    assert blank.locator("#key-form").is_hidden() and blank.input_value("#key") == ""
    stored = blank.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert stored == '[{},{},""]' and KEY not in blank.content()
