"""Titles that would fill the page or turn the words around them, as an older run may hold them."""

import re

import pytest

RTL = "\u202eelttil \u05d0\u05d1\u05d2 ("
TITLES = {
    "long": "A title without an end " * 500,
    "one word": "W" * 10_000,
    "turned": RTL,
    "towers": "Z" + "\u0301\u0302\u0303\u0304" * 2_000,
    "lines": "line\n" * 500,
}


THREE_LINES = 100  # pixels, of the largest letters and with all that stands around them
SHOWN_BARE = """text => [...document.querySelectorAll('body *')].filter(n => !n.closest('bdi')
    && [...n.childNodes].some(c => c.nodeType === 3 && c.data.includes(text))).length"""


def tall(page, rows):
    """Heights of what a selector finds."""
    return page.locator(rows).evaluate_all("ls => ls.map(l => l.getBoundingClientRect().height)")


@pytest.mark.parametrize("width", [360, 1180])
@pytest.mark.parametrize("kind", TITLES)
def test_no_title_fills_the_page_or_turns_what_stands_beside_it(browser, url, kind, width):
    title = TITLES[kind]
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()

    def with_title(told):
        for line in told.get("recommendations", []) + told.get("items", []) + told.get("history", []):
            line["title"] = title
        if "explanation" in told:
            told["explanation"] |= {
                "shares": {"llm": 0.5},
                "reasons": [{"item_id": "a", "title": title, "drop": 1.0, "probability_without": 0.5}],
                "nearest": [{"item_id": "a", "title": title, "cosine": 0.5, "by": "title"}],
            }
        return told

    def answer(route):
        got = route.fetch()
        route.fulfill(response=got, json=with_title(got.json()))

    page.route(re.compile("/v1/"), answer)
    page.goto(url)
    page.locator("#both > li").first.wait_for()
    page.locator("#both [data-does=why]").first.click()
    page.locator("#both .why ul bdi").wait_for()
    assert max(tall(page, ".why bdi")) <= THREE_LINES
    page.fill("#query", "film")
    page.locator("#found button").first.click()
    page.locator("#history .title").wait_for()
    page.fill("#user", "ann")
    page.get_by_role("button", name="Take the id").click()
    page.locator("#about bdi").nth(1).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for rows in ("#both .top", "#alone .top", "#found li", "#history li", "#status bdi"):
        assert max(tall(page, rows)) <= THREE_LINES, rows
    assert page.evaluate(SHOWN_BARE, title[:20]) == 0
    isolated = "getComputedStyle(document.querySelector('#status bdi')).unicodeBidi"
    assert page.evaluate(isolated) == "isolate"
    page.locator("#status", has_text="a title and the lists change").wait_for()  # asks a little later
    for name in ("Like ", "Why "):
        label = page.locator(f"#both [aria-label^='{name}']").first.get_attribute("aria-label")
        assert len(label) <= 270
    page.unroute_all(behavior="wait")  # a list may still be on its way
    context.close()
