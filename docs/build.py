"""What is made from other things: settings, the list of files, and the site from the Markdown.

python docs/build.py settings     # writes docs/settings.md; a test compares
python docs/build.py files        # writes the list of files in docs/architecture.md; a test compares
python docs/build.py site         # writes build/site, without network; needs sasrecllm[docs]
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from sasrecllm.settings import Config, Section

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "sasrecllm"
FILES, FILES_END = "<!-- files: python docs/build.py files -->\n", "<!-- end of files -->"
HEAD = """# Settings

Every setting with its default and what it may be. A YAML file (`--config`) holds what differs;
`SASRECLLM_SECTION__KEY` in the environment and `section.key=value` on the command line come on top.
The environment counts for `run`, `prepare`, `train`, `tune` and Python's `fit` alone
([cli.md](cli.md#what-is-printed)).
`sasrecllm run --print-config` prints a whole configuration. A name of an earlier version is refused
with today's. This page is generated (`python docs/build.py settings`).
"""
MKDOCS = """site_name: sasrecllm
theme: {name: readthedocs, highlightjs: false}
use_directory_urls: false
validation: {anchors: warn}
"""


def settings_page() -> str:
    """The text of docs/settings.md: one table a section."""
    return HEAD + "".join(_tables(Config(), "", "a run as a whole"))


def _tables(section: Any, path: str, title: str) -> list[str]:
    """The table of one section with its defaults, and those of the sections inside it."""
    rows, inner = [], []
    for name, field in type(section).model_fields.items():
        default = getattr(section, name)
        if isinstance(default, Section):
            inner += _tables(default, f"{path}{name}.", field.description)
        else:
            shown = default if default and isinstance(default, str) else json.dumps(default)
            meaning = str(field.description).replace("|", "\\|")
            rows.append(f"| `{path}{name}` | `{shown}` | {_values(field)} | {meaning} |\n")
    heading = f"\n## {path.rstrip('.') or 'run'}: {title}\n\n"
    return [heading, "| setting | default | values | meaning |\n|---|---|---|---|\n", *rows, *inner]


def _values(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    annotation = field.annotation
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = ", ".join(
        f"{sign} {_number(getattr(bound, key))}"
        for bound in field.metadata
        for key, sign in signs.items()
        if hasattr(bound, key)
    )
    return " or ".join(f"{_kind(k)} {bounds}".strip() if k in (int, float) else _kind(k) for k in kinds)


def _number(bound: float) -> str:
    return "2⁵³" if bound == 2**53 else f"{bound:g}"


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    words = {
        str: "text",
        bool: "`true`, `false`",
        int: "whole number",
        float: "number",
        NoneType: "`null`",
    }
    return words.get(annotation) or {list: "list", dict: "keys and values"}[get_origin(annotation)]


def architecture_page() -> str:
    """The text of docs/architecture.md with one line a file, out of the first lines of docstrings."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    before, mark, rest = text.partition(FILES)
    return before + mark + _files() + rest[rest.index(FILES_END) :]


def _files() -> str:
    """A heading a room with its floor, highest first, and a row a file."""
    tests = (DOCS.parent / "tests" / "test_architecture.py").read_text(encoding="utf-8")
    floors = ast.literal_eval(re.search(r"^FLOORS = (\{.*?\})", tests, re.M | re.S)[1])
    rooms: dict[tuple[int, str], list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE)
        own = inside.parts[0].removesuffix(".py")
        room = str(inside.parent) + "/" if len(inside.parts) > 1 else "single files"
        floor = floors.get(own, 99) if len(inside.parts) > 1 else 0
        line = f"`{inside.name if floor else inside}` | {_first_line(path)}"
        rooms.setdefault((-floor, room), []).append(line)
    out = []
    for (floor, room), lines in sorted(rooms.items()):
        about = [x.split("| ")[1] for x in lines if x.startswith("`__init__.py`")]
        said = f": {about[0]}" if floor and about else " (their floors stand in the test)"
        out.append(f"\n**{room.rstrip('/')}**{f', floor {-floor}' if floor else ''}{said}\n")
        out.append("\n| file | what it is |\n|---|---|\n")
        out += [f"| {x} |\n" for x in lines if not (floor and x.startswith("`__init__"))]
    return "".join(out) + "\n"


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = docstring.partition("\n")[0].replace("``", "`").replace("|", "\\|")
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?([\w]+)`", r"`\1`", line)


def site_source(work: Path) -> None:
    """The pages and the README in the folder ``work``, where the README is the site's first page."""
    root = DOCS.parent
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(DOCS, work, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(root / "CITATION.cff", work)
    for name, page in (("README.md", "index.md"), ("CONTRIBUTING.md", "CONTRIBUTING.md")):
        text = (root / name).read_text(encoding="utf-8")
        (work / page).write_text(re.sub(r"\]\(docs/", "](", text), encoding="utf-8")
    for page in work.rglob("*.md"):
        up = "../" * len(page.relative_to(work).parts)
        text = page.read_text(encoding="utf-8").replace(f"]({up}README.md", f"]({up[3:]}index.md")
        text = text.replace(f"]({up}CONTRIBUTING.md", f"]({up[3:]}CONTRIBUTING.md")
        page.write_text(text, encoding="utf-8")


def site(out: Path) -> None:
    """The pages and the README as one site; a broken link ends it with an error."""
    work = out.with_name("site-source")
    site_source(work / "docs")
    (work / "mkdocs.yml").write_text(MKDOCS, encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    subprocess.run([*command, "-f", work / "mkdocs.yml", "-d", out.resolve()], check=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["settings"]:
        (DOCS / "settings.md").write_text(settings_page(), encoding="utf-8")
    elif sys.argv[1:] == ["files"]:
        (DOCS / "architecture.md").write_text(architecture_page(), encoding="utf-8")
    elif sys.argv[1:] == ["site"]:
        site(DOCS.parent / "build" / "site")
    else:
        sys.exit(__doc__)
