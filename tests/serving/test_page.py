"""The page in a real browser on a real run; skipped, saying so, where there is no Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sasrecllm.config import load_config
from sasrecllm.pipeline.contents import run_all
from sasrecllm.pipeline.folder import open_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian package chromium)")
TINY = Path(__file__).parents[1] / "tiny.yaml"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "tiny"
    config = load_config(TINY, ["evaluation.ablations=false"], environment=False)
    run_all(open_run(folder, config, "test", quiet=True))
    command = [sys.executable, "-m", "sasrecllm", "serve", folder, "--port", "0"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().rpartition(" at ")[2].strip()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, url):
    """A fresh page; script errors, dialogs and requests that leave the host are its faults."""
    context = browser.new_context(viewport={"width": 1180, "height": 860})
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(f"error {error}"))
    page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda d: (page.faults.append(f"dialog {d.message}"), d.dismiss()))
    page.on(
        "request", lambda r: None if r.url.startswith((url, "data:")) else page.faults.append(r.url)
    )
    page.goto(url)
    page.locator("#both > li").first.wait_for()
    yield page
    assert page.faults == []
    context.close()


def titles(page, where="#both"):
    return page.locator(f"{where} > li .title").all_inner_texts()


def settled(page, before):
    page.wait_for_function(
        "b => [...document.querySelectorAll('#both > li .title')].map(n => n.innerText).join() !== b",
        arg=",".join(before),
    )


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


def test_a_new_item_lands_somewhere_and_its_title_is_only_text(page):
    evil = "<img src=x onerror=alert(1)> The General"
    page.fill("#new-title", evil)
    page.get_by_role("button", name="Add it").click()
    page.wait_for_function(
        "() => /lands on place|behind the first/.test(document.querySelector('#landed').innerText)"
    )
    assert evil in page.inner_text("#landed")
    page.fill("#query", "onerror")
    page.locator("#found li", has_text="onerror").first.wait_for()
    assert page.locator("img").count() == 0


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
    before = titles(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Like ")
    page.keyboard.press("Enter")
    settled(page, before)
    assert page.locator("#history > li").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll_and_text_stands_out(browser, url, scheme):
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    page.locator("#both > li").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    colours = page.evaluate(
        "() => ['color', 'backgroundColor'].map("
        "k => getComputedStyle(document.body)[k].match(/\\d+/g).map(Number))"
    )
    assert contrast(*colours) > 7
    context.close()


def contrast(one, other):
    """WCAG contrast ratio of two sRGB colours."""

    def light(colour):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    bright, dark = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
