"""The house keeps its floors: imports go down only, doors are single, nothing is unpickled."""

import ast
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sasrecllm"
FLOORS = {
    "errors": 1, "types": 1, "machine": 1, "names": 1, "seeds": 1, "plugins": 1, "ops": 1,
    "settings": 1, "former_settings": 1, "manifest": 1, "config": 2, "data": 2, "encoders": 2,
    "prompts": 2, "baselines": 2, "evaluation": 2,
    "checkpoint": 2, "fusion": 3, "llm": 3, "training": 4, "runs": 5, "stages": 6, "inference": 7,
    "reports": 7, "pipeline": 8, "batch": 9, "studies": 9, "serving": 9, "client": 9, "forget": 8,
    "updates": 9, "cli": 10, "trained": 10, "fitting": 11, "__main__": 11,
}  # fmt: skip
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Modules that ``path`` names; what it takes from the package itself as ``sasrecllm.NAME``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "sasrecllm":
            found.update(f"sasrecllm.{a.name}" for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
    return found


def upward(own: str, modules: set[str]) -> set[str]:
    """Which of ``modules`` the room ``own`` may not import; the whole package stands above all."""
    ours = {m for m in modules if m.split(".")[0] == "sasrecllm"} - {"sasrecllm.__version__"}
    rooms = {m: m.split(".")[1] if "." in m else "" for m in ours}
    floors = {m: FLOORS.get(at, max(FLOORS.values())) for m, at in rooms.items() if at != own}
    return {m for m, floor in floors.items() if not (floor < FLOORS[own] or floor == FLOORS[own] == 1)}


def test_an_import_that_runs_up_is_found():
    assert upward("data", {"sasrecllm.errors", "sasrecllm.data.catalog", "numpy", "os.path"}) == set()
    assert upward("errors", {"sasrecllm.types"}) == set()
    for seen in ("sasrecllm", "sasrecllm.fit", "sasrecllm.prompts.batch", "sasrecllm.cli.shared"):
        assert upward("data", {seen}) == {seen}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down_only(path):
    relative = path.relative_to(SOURCE)
    own = relative.parts[0].removesuffix(".py")
    if own == "__init__":
        return
    above = upward(own, imports(path))
    assert not above, f"{relative} imports {above}, which is not below it"


def test_what_answers_is_not_what_trains():
    """A run is opened and asked without what trains one, and no stage is built of what answers."""
    for path in FILES:
        relative = str(path.relative_to(SOURCE))
        if relative.startswith(("runs/", "inference/")):
            assert not any(m.startswith("sasrecllm.training") for m in imports(path)), relative
        if relative.startswith(("training/", "stages/")):
            assert not any(m.startswith("sasrecllm.inference") for m in imports(path)), relative


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_components_take_plain_arguments(path):
    """What stands below ``runs`` works without a configuration: it never sees the whole settings."""
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if own in {"__init__", "settings", "config"} or FLOORS[own] >= FLOORS["runs"]:
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sasrecllm."):
            assert "Config" not in {a.name for a in node.names}, path


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every group of names that reach each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    waiting: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        waiting.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in waiting:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = waiting[waiting.index(name) :]
            del waiting[waiting.index(name) :]
            found.extend([sorted(group)] if len(group) > 1 else [])

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def named(path: Path, modules: Collection[str]) -> set[str]:
    """Which of ``modules`` the file imports: at once, within a function, or for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{a.name}" for a in node.names}
            found |= {full if full in modules else node.module for full in inside}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return found & set(modules)


def test_no_module_imports_itself_by_way_of_others_not_even_late_or_for_a_type():
    names = {".".join(("sasrecllm", *p.relative_to(SOURCE).with_suffix("").parts)): p for p in FILES}
    names = {name.removesuffix(".__init__"): p for name, p in names.items()}
    graph = {name: named(p, names) - {name} for name, p in names.items()}
    assert sum(map(len, graph.values())) > len(names), "imports were found at all"
    assert "sasrecllm.fitting" in graph["sasrecllm"], "and those for types among them"
    assert circles(graph) == []


@pytest.mark.parametrize(
    ("library", "door"),
    [
        ("transformers", "llm/loading.py"),
        ("peft", "llm/backbone.py"),
        ("polars", "data/"),
        ("fastapi", "serving/"),
        ("uvicorn", "serving/"),
    ],
)
def test_one_door_for_each_heavy_library(library, door):
    for path in FILES:
        if any(m.split(".")[0] == library for m in imports(path)):
            assert str(path.relative_to(SOURCE)).startswith(door)


def test_nothing_is_unpickled_or_executed():
    forbidden = {"pickle", "dill", "joblib", "marshal", "shelve"}
    for path in FILES:
        assert not forbidden & {m.split(".")[0] for m in imports(path)}, path
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "torch.load", "yaml.load"}, f"{path}: {called}"
            if isinstance(node, ast.keyword):
                assert node.arg != "trust_remote_code", path


def test_help_and_import_are_light():
    code = (
        "import sys, sasrecllm, sasrecllm.cli, sasrecllm.config\n"
        "heavy = {'torch', 'transformers', 'peft', 'polars', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_public_api_is_what_it_says():
    import sasrecllm

    assert len(sasrecllm.__all__) <= 20
    for name in sasrecllm.__all__:
        assert getattr(sasrecllm, name).__name__
    rooms = {path.name.removesuffix(".py") for path in SOURCE.iterdir()}
    shown = {name for name in dir(sasrecllm) if not name.startswith("__")}
    assert shown - rooms == set(sasrecllm.__all__) == shown
    assert {"fit", "Client", "Recommendation", "Explanation"} <= shown
    with pytest.raises(AttributeError):
        sasrecllm.nothing  # noqa: B018


def strings(path: Path) -> set[str]:
    """Every text in the code of ``path`` but its docstrings, and the pieces of each path in one."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in docs}
    return {piece for text in texts if isinstance(text, str) for piece in text.split("/")}


def joined(path: Path) -> set[str]:
    """Every text that is put behind a ``/``: a name inside a folder."""
    tree = ast.parse(path.read_text("utf-8"))
    divided = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)]
    return {n.right.value for n in divided if isinstance(n.right, ast.Constant)}


def names_in_a_run() -> set[str]:
    """Every name that a run folder and the folder of a stage give to something in them."""
    from sasrecllm.runs import folder

    kinds = (folder.RunFolder(Path("run")), folder.StageFolder(Path("run/stages/1-a")))
    paths = [
        getattr(one, name)
        for one in kinds
        for name, value in vars(type(one)).items()
        if isinstance(value, property)
    ]
    named = {p.name for p in paths if isinstance(p, Path)}
    return named | {folder.PARTS, folder.LOADED, folder.TRUTH, folder.DATA_SETTINGS}


def test_file_names_of_a_run_stand_in_one_place():
    """A name with a dot nowhere else, the others (``parts`` is a word) never as a name in a folder."""
    names = names_in_a_run()
    assert {"run.json", "results.json", "stage.json", "scores", "stages", "parts"} <= names
    shared = {"metrics.jsonl", "MANIFEST.sha256", ".lock"}  # the word of who writes them
    files = {name for name in names if "." in name} - shared
    for path in FILES:
        relative = str(path.relative_to(SOURCE))
        if not relative.startswith("runs/"):
            assert not files & strings(path), relative
            assert not names - files & joined(path), relative


def compared(path: Path) -> set[str]:
    """Every text that something is compared with."""
    tree = ast.parse(path.read_text("utf-8"))
    sides = [
        side for n in ast.walk(tree) if isinstance(n, ast.Compare) for side in (n.left, *n.comparators)
    ]
    sides += [n.value for n in ast.walk(tree) if isinstance(n, ast.MatchValue)]
    found = [n.value for side in sides for n in ast.walk(side) if isinstance(n, ast.Constant)]
    return {value for value in found if isinstance(value, str)}


def registries() -> dict[str, set[str]]:
    """Where a variant's name may be compared -> the names of all rows there."""
    from sasrecllm.baselines.table import BASELINES
    from sasrecllm.data.ingest.sources import SOURCES
    from sasrecllm.data.splits import SPLITS
    from sasrecllm.encoders.table import ENCODERS
    from sasrecllm.llm.mapper import KINDS as MAPPERS
    from sasrecllm.runs.channels import CHANNELS
    from sasrecllm.stages.ablations import ABLATIONS
    from sasrecllm.stages.kinds import KINDS
    from sasrecllm.stages.strategies import STRATEGIES

    return {
        "baselines/": set(BASELINES),
        "data/ingest/": set(SOURCES),
        "data/splits.py": set(SPLITS),
        "encoders/": set(ENCODERS),
        "llm/mapper.py": set(MAPPERS),
        "runs/channels.py": set(CHANNELS),
        "stages/": {*KINDS, *STRATEGIES, *ABLATIONS},
    }


@pytest.mark.parametrize(
    "place",
    [
        "baselines/", "data/ingest/", "data/splits.py", "encoders/", "llm/mapper.py",
        "runs/channels.py", "stages/",
    ],
)  # fmt: skip
def test_no_variant_is_asked_for_by_name_outside_its_room(place):
    """A variant is one file and one row: no other module compares anything with its name."""
    names = registries()[place]
    for path in FILES:
        relative = str(path.relative_to(SOURCE))
        if not relative.startswith(place):
            assert not names & compared(path), f"{relative} knows {names & compared(path)}"


def test_no_backbone_family_is_named_outside_its_room():
    for path in FILES:
        relative = str(path.relative_to(SOURCE))
        if not relative.startswith(("llm/backbone.py", "llm/targets.py", "llm/gguf")):
            text = path.read_text("utf-8")
            assert '"gpt2"' not in text and '"llama"' not in text, relative


def test_the_pipeline_is_short():
    """Many runs, lists, pages: each has a room of its own; the pipeline is one run."""
    lines = {p.name: len(p.read_text("utf-8").splitlines()) for p in (SOURCE / "pipeline").glob("*.py")}
    assert lines["train.py"] <= 120 and sum(lines.values()) <= 1_000, lines
