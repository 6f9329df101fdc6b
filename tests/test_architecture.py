"""The house keeps its floors: imports go down only, doors are single, nothing is unpickled."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sasrecllm"
FLOORS = {
    "errors": 1, "types": 1, "machine": 1, "names": 1, "plugins": 1, "ops": 1, "manifest": 1,
    "config": 2, "data": 2, "encoders": 2, "prompts": 2, "baselines": 2, "evaluation": 2,
    "checkpoint": 2, "llm": 3, "training": 4, "runs": 5, "stages": 5, "inference": 6, "reports": 6,
    "pipeline": 7, "batch": 8, "studies": 8, "serving": 8, "client": 8, "cli": 9, "__main__": 10,
}  # fmt: skip
FILES = sorted(SOURCE.rglob("*.py"))


def room(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down_only(path):
    relative = path.relative_to(SOURCE)
    own = relative.parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module in imports(path):
        if module.startswith("sasrecllm.") and room(module) != own:
            other = room(module)
            assert FLOORS[other] <= FLOORS[own], f"{relative} imports {module}, a floor above"
            assert FLOORS[other] < FLOORS[own] or FLOORS[own] in (1, 5), f"{relative} imports {module}"


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

    assert len(sasrecllm.__all__) <= 15
    for name in sasrecllm.__all__:
        assert getattr(sasrecllm, name).__name__
    with pytest.raises(AttributeError):
        sasrecllm.nothing  # noqa: B018


def test_no_variant_is_named_outside_its_room():
    """An encoder, split or baseline is one file and one row: no other room branches on its name."""
    for path in FILES:
        relative = str(path.relative_to(SOURCE))
        text = path.read_text("utf-8")
        if not relative.startswith(("encoders/", "config.py", "training/strategies.py")):
            assert '"gru4rec"' not in text and '"mf"' not in text, relative
        if not relative.startswith(("llm/backbone.py", "llm/targets.py", "llm/gguf")):
            assert '"gpt2"' not in text and '"llama"' not in text, relative
