"""The page's wishes in a real browser, on the made-up model: what it asks for is what was clicked."""

from __future__ import annotations

import pytest


@pytest.fixture
def page(faultless, url):
    """A fresh page; script errors are its faults.  What it asks of the model lies in ``page.asked``."""
    faultless.goto(url)
    faultless.locator("#both > li").first.wait_for()
    return faultless


# New cards have taken the place of the old ones: a click before that may fall between the two.
GONE = "i => !document.querySelector(`.cards > [data-item=${i}]`)"
PLAIN = {"exclude": [], "boost": {}, "diversity": 0}


def asked(page, act, **changed):
    """Do ``act``, upon which SASRecLLM is asked with these wishes and no others, and SASRec with those
    that hold for any list."""
    wishes = PLAIN | changed

    def both(response):
        body = response.request.post_data_json if response.url.endswith("/v1/recommend") else {}
        return "rerank" not in body and {name: body.get(name) for name in wishes} == wishes

    def alone(response):
        body = response.request.post_data_json if response.url.endswith("/v1/recommend") else {}
        return body.get("rerank") is False and body["exclude"] == wishes["exclude"]

    with page.expect_response(both) as first, page.expect_response(alone) as second:
        act()
    assert first.value.ok and second.value.ok
    assert "retrieve" not in first.value.request.post_data_json, "the server has its own number"
    assert not {"boost", "diversity"} & second.value.request.post_data_json.keys()


def titles(page, where="#both"):
    return page.locator(f"{where} > li .title").all_inner_texts()


def test_a_page_without_wishes_asks_for_the_list_as_it_is(page):
    asked(page, page.get_by_role("button", name="Start again").click)


def test_what_shall_not_be_shown_leaves_both_lists_until_it_is_taken_back(page):
    card = page.locator("#both > li").first
    first, item = titles(page)[0], card.get_attribute("data-item")
    asked(page, card.get_by_role("button", name="Do not show", exact=False).click, exclude=[item])
    page.wait_for_function(GONE, arg=item)
    assert first not in titles(page) and first not in titles(page, "#alone")
    assert first in page.inner_text("#excluded")
    asked(page, page.get_by_role("button", name=f"Take back {first}", exact=True).click)
    assert page.locator("#excluded > li").count() == 0


def test_more_or_less_of_a_value_that_the_catalogue_has(page):
    wish = page.get_by_role("button", name="Wish").click
    page.fill("#boost", "genre=War")
    page.select_option("#factor", "0.5")
    asked(page, wish, boost={"genre": {"War": 0.5}})
    assert "genre: War, half" in page.inner_text("#boosts") and page.input_value("#boost") == ""
    page.fill("#boost", "war")  # the only value that fits; it takes the place of the former wish
    page.select_option("#factor", "5")
    asked(page, wish, boost={"genre": {"War": 5}})
    assert page.locator("#boosts > li").count() == 1
    asked(page, page.get_by_role("button", name="Take back genre: War").click)


@pytest.mark.parametrize(
    ("typed", "said"), [("genre", "2 values fit “genre”"), ("opera", "No item has “opera”")]
)
def test_a_value_that_is_none_is_said_and_nothing_is_wished(page, typed, said):
    page.fill("#boost", typed)
    page.get_by_role("button", name="Wish").click()
    page.wait_for_function("t => document.querySelector('#status').innerText.includes(t)", arg=said)
    assert page.locator("#boosts > li").count() == 0 and page.input_value("#boost") == typed


def test_the_mix_goes_with_the_question_and_start_again_forgets_every_wish(page):
    card = page.locator("#both > li").first
    item, never = card.get_attribute("data-item"), card.get_by_role("button", name="Do not show")
    asked(page, never.click, exclude=[item])
    page.wait_for_function(GONE, arg=item)
    asked(page, lambda: page.locator("#diversity").fill("0.4"), diversity=0.4, exclude=[item])
    assert page.inner_text("#mix") == "40 %"
    asked(page, page.get_by_role("button", name="Start again").click)
    assert page.inner_text("#mix") == "0 %" and page.locator("#excluded > li").count() == 0


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(page):
    for selector in ("#boost", "#factor", "#diversity"):
        page.locator(selector).focus()
        assert page.evaluate("document.activeElement.id") == selector.removeprefix("#")
    assert page.get_by_label("More, or less, of").count() == 1
    assert page.get_by_label("How much").count() == 1
    assert page.get_by_label("Mix of the list", exact=False).count() >= 1
