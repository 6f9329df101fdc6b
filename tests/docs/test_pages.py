"""The documents keep their word: links lead somewhere, the settings page is the settings."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Names of a page's headings as links spell them."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file_or_a_heading(page):
    check_links(page)


def check_links(page: Path, inside: Path = ROOT) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else page.parent / name
        assert target.exists() and target.resolve().is_relative_to(inside), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_link_of_the_site_leads_to_one_of_its_pages(tmp_path):
    build().site_source(tmp_path / "site")
    pages = sorted((tmp_path / "site").rglob("*.md"))
    assert len(pages) == len(list((ROOT / "docs").rglob("*.md"))) + 2
    for page in pages:
        check_links(page, (tmp_path / "site").resolve())


def test_the_settings_page_is_what_the_settings_say():
    said = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert said == build().settings_page(), "run: python docs/build.py settings"


def test_the_architecture_page_has_one_line_for_every_file():
    said = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert said == build().architecture_page(), "run: python docs/build.py files"
    files = [p for p in (ROOT / "src" / "sasrecllm").rglob("*.py") if p.name != "__init__.py"]
    lines = [x for x in said.splitlines() if x.startswith("| `") and ".py` |" in x]
    assert len(lines) == len(files) + 1, "the package's own __init__ stands there too"
    assert not [x for x in lines if len(x.split("|")[2].strip()) < 20]


def test_the_page_of_the_command_line_has_every_verb_and_no_other():
    from typer.main import get_command

    from sasrecllm.cli import app

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    table = page[page.index("| verb |") : page.index("Settings are written")]
    first = [line.split("|")[1] for line in table.splitlines()[2:] if line]
    said = {verb for cell in first for verb in re.findall(r"`(\w+)`", cell)}
    assert said | {"merge"} == set(get_command(app).commands), "merge stands in the line of recommend"


def test_the_page_of_extending_names_every_kind_of_stage_and_what_it_may_train():
    from sasrecllm.stages.kinds import KINDS

    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    said = page[page.index("`task` is") :].partition("##")[0]
    parts = {part for kind in KINDS.values() for group in kind.may_train for part in group}
    for name in {*KINDS, *parts}:
        assert f"`{name}`" in said, name


def test_every_setting_has_a_meaning():
    lines = [x for x in build().settings_page().splitlines() if x.startswith("| `")]
    assert len(lines) > 80
    assert not [x for x in lines if x.endswith(("|  |", "| None |"))]


def test_the_readme_takes_five_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8")) <= 7000
