"""The page in a real browser on a real run; skipped, saying so, where there is no Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import closing

import pytest

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
EVIL = [
    "<img src=x onerror=alert(1)> The General",
    "</script><script>alert(2)</script>",
    "javascript:alert(3)",
]


@pytest.fixture(scope="module")
def url(browser, run, tmp_path_factory):
    folder = shutil.copytree(run, tmp_path_factory.mktemp("page") / "tiny")
    command = [sys.executable, "-m", "sasrecllm", "serve", folder, "--port", "0"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    with process:
        yield process.stdout.readline().rpartition(" at ")[2].strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0


@pytest.fixture
def page(faultless, url):
    """A fresh page; script errors, dialogs and requests that leave the host are its faults."""
    page = faultless
    page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda d: (page.faults.append(f"dialog {d.message}"), d.dismiss()))
    page.on(
        "request", lambda r: None if r.url.startswith((url, "data:")) else page.faults.append(r.url)
    )
    page.goto(url)
    page.locator("#both > li").first.wait_for()
    return page


def titles(page, where="#both"):
    return page.locator(f"{where} > li .title").all_inner_texts()


def settled(page, before):
    page.wait_for_function(
        "b => [...document.querySelectorAll('#both > li .title')].map(n => n.innerText).join() !== b",
        arg=",".join(before),
    )


def taken(page):
    """A like stands in the history and all that it asks for has been answered, changed list or not."""
    page.locator("#history > li").first.wait_for()
    page.wait_for_load_state("networkidle")


def test_likes_and_dislikes_change_both_lists_and_liked_titles_leave_them(page):
    before = titles(page)
    assert len(before) == 10 and "good for anybody" in page.inner_text("#status")
    page.locator("#both > li").first.get_by_role("button", name="Like", exact=False).first.click()
    settled(page, before)
    assert before[0] not in titles(page)
    assert before[0] in page.inner_text("#history")
    second = titles(page)
    page.locator("#both > li").first.get_by_role("button", name="Dislike", exact=False).click()
    settled(page, second)
    ranks = [int(t) for t in page.locator("#alone > li .rank").all_inner_texts()]
    assert ranks == sorted(ranks) and len(titles(page, "#alone")) == 10
    page.get_by_role("button", name=f"Remove {before[0]}").click()
    assert page.locator("#history > li").count() == 1


def test_why_names_what_carried_the_answer(page):
    before = titles(page)
    page.locator("#both > li").first.get_by_role("button", name="Like", exact=False).first.click()
    settled(page, before)
    why = page.locator("#both > li").first.get_by_role("button", name="Why", exact=False)
    assert why.get_attribute("aria-expanded") == "false"
    why.click()
    page.locator("#both > li").first.locator(".why p").first.wait_for()
    said = page.locator("#both > li").first.locator(".why").inner_text()
    assert "crowd" in said and "words" in said and why.get_attribute("aria-expanded") == "true"


def test_why_says_no_more_of_a_share_than_there_is(page):
    page.locator("#both > li").first.get_by_role("button", name="Why", exact=False).click()
    page.locator("#both .why p").first.wait_for()
    rest = re.findall(
        r", (?:item quality|user preference|steady level) [+−]0\.00", page.inner_text("#both")
    )
    assert rest == []


def landed(page, title):
    """What the page says of where ``title`` lands."""
    page.wait_for_function(
        "t => { const said = document.querySelector('#landed').innerText;"
        " return said.includes(t) && /lands on place|behind the first/.test(said); }",
        arg=title,
    )
    return page.inner_text("#landed")


def reranked(response):
    """SASRecLLM's own answer, of the two that the page asks for."""
    return response.url.endswith("/v1/recommend") and "rerank" not in response.request.post_data_json


def test_each_new_item_is_told_its_own_place_which_is_its_place_in_the_list(page):
    for title in ("The General of the Sea", "A Later Newcomer"):
        page.fill("#new-title", title)
        with page.expect_response(reranked) as answer:
            page.get_by_role("button", name="Add it").click()
        lines = answer.value.json()["recommendations"]
        place = next((line["rank"] for line in lines if line["title"] == title), None)
        said = landed(page, title)
        assert (f"lands on place {place} of" in said) if place else ("behind the first" in said)


@pytest.mark.parametrize("evil", EVIL)
def test_a_title_is_only_text_wherever_it_shows(page, evil):
    page.fill("#new-title", evil)
    page.get_by_role("button", name="Add it").click()
    landed(page, evil)
    page.fill("#query", evil)
    page.locator("#found li", has_text=evil).first.wait_for()
    page.get_by_role("button", name=f"Like {evil}").first.click()
    taken(page)
    page.wait_for_function("() => document.querySelector('#landed').innerText.includes('history')")
    assert evil in page.inner_text("#history")
    page.locator("#both > li").first.get_by_role("button", name="Why", exact=False).click()
    page.locator("#both .why p").first.wait_for()
    assert page.locator("img, main script, main a").count() == 0
    page.locator("#history button").click()


def test_the_policy_lets_no_other_script_in(page, url):
    policy = page.request.get(url).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_flags_are_said_in_words(page):
    assert "new to the model" in page.inner_text("#flags")
    assert "popular" in page.inner_text("#flags")
    page.fill("#user", "u0003")
    page.get_by_role("button", name="Take the id").click()
    page.wait_for_function("() => document.querySelector('#flags').innerText === ''")


def test_a_known_user_brings_a_history(page):
    before = titles(page)
    page.fill("#user", "u0003")
    page.get_by_role("button", name="Take the id").click()
    settled(page, before)
    assert "You are u0003" in page.inner_text("#about")
    page.get_by_role("button", name="Start again").click()
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('anybody')")


def test_everything_can_be_done_with_the_keyboard(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the recommendations"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("the")
    page.locator("#found button").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Like ")
    page.keyboard.press("Enter")
    taken(page)
    assert page.locator("#history > li").count() == 1
    page.locator("#history button").focus()
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.id") == "query"  # not lost with the button


def held(page):
    """What the keyboard is on: the place in the list, and the button."""
    return page.evaluate(
        "() => [[...document.querySelectorAll('#both > li')].findIndex("
        "l => l.contains(document.activeElement)), document.activeElement.dataset.does]"
    )


def test_the_keyboard_stays_in_its_line_when_the_list_changes(page):
    before = titles(page)
    page.locator("#both > li").nth(2).locator("[data-does=like]").focus()
    page.keyboard.press("Enter")
    settled(page, before)
    assert held(page) == [2, "like"]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert held(page) == [2, "why"]
    page.keyboard.press("Enter")
    page.locator("#both > li").nth(2).locator(".why p").first.wait_for()
    page.focus("#new-title")
    page.keyboard.type("Typed on Keys")
    page.keyboard.press("Enter")
    landed(page, "Typed on Keys")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll_and_text_stands_out(browser, url, scheme):
    size = {"width": 360, "height": 740}
    with closing(browser.new_context(viewport=size, color_scheme=scheme)) as context:
        page = context.new_page()
        page.goto(url)
        page.locator("#both > li").first.wait_for()
        page.fill("#new-title", "W" * 256)
        page.get_by_role("button", name="Add it").click()
        landed(page, "WWW")
        page.fill("#query", "W" * 256)
        page.get_by_role("button", name="Like WWW").first.click()
        taken(page)  # else the new list takes the answer away
        page.locator("#both [data-does=why]").first.click()
        page.locator("#both .why p").first.wait_for()
        page.evaluate("document.querySelector('#key-form').hidden = false")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for text in ("body", ".soft", ".facts span", ".cards .title", ".cards button", ".why p"):
            assert contrast(*colours(page, text)) > (7 if text == "body" else 4.5), text
        assert contrast(*colours(page, "#query", "borderTopColor")) >= 3


def colours(page, selector, of="color"):
    """A part's colour and the one behind it."""
    return page.evaluate(
        """([selector, of]) => {
            const read = (node, key) => getComputedStyle(node)[key].match(/[\\d.]+/g).map(Number);
            const node = document.querySelector(selector);
            let behind = of === "color" ? node : node.parentElement;
            while (behind && read(behind, "backgroundColor")[3] === 0) behind = behind.parentElement;
            return [read(node, of), read(behind || document.body, "backgroundColor")];
        }""",
        [selector, of],
    )


def contrast(one, other):
    """WCAG contrast ratio of two sRGB colours."""

    def light(colour):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    bright, dark = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_items_near_in_meaning_stand_apart_from_those_that_hold_the_words(page):
    item = {"item_id": "m0001", "title": "Holds it", "attributes": {}, "added": False, "near": False}
    near = item | {"item_id": "m0002", "title": "Near it", "near": True}
    answers = {
        "both": ([item, near], ["Holds it", "Near in meaning:", "Near it"]),
        "none": ([near], ["No title has all these words.", "Near in meaning:", "Near it"]),
        "one": ([item], ["Holds it"]),
    }

    def answer(route):
        items = answers[route.request.url.rpartition("=")[2]][0]
        route.fulfill(json={"items": items, "total": items.count(item)})

    page.route("**/v1/items?*", answer)
    for query, (_, shown) in answers.items():
        page.fill("#query", query)
        page.wait_for_function(
            """shown => {
                const lines = [...document.querySelectorAll("#found > li")].map((n) => n.innerText);
                return lines.length === shown.length && lines.every((n, i) => n.startsWith(shown[i]));
            }""",
            arg=shown,
        )
