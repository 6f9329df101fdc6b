"""Everything that can vary can come from outside the package: a stage, a part, an encoder with an
argument of its own, a loss, a baseline and a metric, out of one module that the package never saw."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from sasrecllm import SASRecLLM, plugins
from sasrecllm.checkpoint import read_json
from sasrecllm.config import judged_by, load_config, parse_config
from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.table_metrics import further_metrics
from sasrecllm.pipeline.prepare import check_settings, prepare
from sasrecllm.pipeline.run import evaluate_again, run_all
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import open_run, reopen_run, run_again, run_at_work
from sasrecllm.runs.scores import load_scores
from sasrecllm.runs.stored import stored_config
from sasrecllm.stages.strategies import planned

TINY = Path(__file__).parent / "tiny.yaml"
OUTSIDE = """
import numpy as np
import torch
from sasrecllm.encoders.losses import Loss
from sasrecllm.encoders.mf import MF
from sasrecllm.runs.parts import Part, of_catalog
from sasrecllm.stages.kind import Kind

COUNTS = Part(
    save=lambda system: ({"counts": system.own["counts"]}, {"what": "likes of each item"}),
    load=lambda system, tensors, about: system.own.update(counts=tensors["counts"]),
    requires=of_catalog,
    count=lambda system: len(system.own["counts"]),
)


class Counter:
    def __init__(self, name, counts):
        self.name, self.counts = name, counts.numpy()

    def score(self, histories, candidates):
        inside = (candidates >= 0) & (candidates < len(self.counts))
        return np.where(inside, self.counts[np.where(inside, candidates, 0)], 0.0)


class Count(Kind):
    may_train = (frozenset({"outside:COUNTS"}),)
    component = "likes"
    ranks_catalogue = True

    def fit(self, work, stage, folder):
        rows = work.dataset.rows("train")
        liked = np.bincount(work.dataset.items[rows], work.dataset.labels[rows], work.dataset.n_items)
        work.system.own["counts"] = torch.from_numpy(liked)
        return {"likes": float(liked.sum())}

    def scorer(self, system, stage, stages, change=None):
        return Counter(stage.row, system.own["counts"])


class Sharp(MF):
    kind = ""

    def __init__(self, *, sharpness, **shared):
        super().__init__(**shared)
        self.sharpness = sharpness

    @property
    def config(self):
        return super().config | {"sharpness": self.sharpness}

    def score(self, user_BD, users_B, items_BC):
        return super().score(user_BD, users_B, items_BC) * self.sharpness


SQUARES = Loss(lambda a: (a.logits_QC[:, 0] - a.labels_Q).square().sum(), likes_only=False,
               drawn=lambda asked, implicit: 0)


class Newest:
    name = "highest index"

    def __init__(self, rows):
        self.n_items = rows.n_items

    def score(self, histories, candidates):
        return candidates / self.n_items


def mean_score(answers):
    return float(answers.scores.mean())


NOTHING = 3
"""

STAGES = [
    {"name": "encoder", "task": "encode", "train": ["encoder"], "row": "sharp"},
    {"name": "counts", "task": "outside:Count", "train": ["outside:COUNTS"], "row": "counted"},
]
NAMED = {
    "data": {"source": "known-world", "world": {"users": 60, "items": 60, "rows": 12}},
    "encoder": {
        "kind": "outside:Sharp",
        "args": {"sharpness": 2.0},
        "loss": "outside:SQUARES",
        "width": 8,
        "length": 5,
        "loop": {"epochs": 1},
    },
    "strategy": STAGES,
    "fusion": {"components": ["llm", "encoder", "likes", "outside:Newest"]},
    "evaluation": {
        "resamples": 100,
        "baselines": ["outside:Newest"],
        "metrics": ["outside:mean_score"],
    },
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "outside.py").write_text(OUTSIDE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
        sys.modules.pop("outside", None)


@pytest.fixture(scope="module")
def trained(modules, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended") / "run"
    run_all(open_run(folder, parse_config(NAMED, "test"), "test", quiet=True))
    return folder


def test_a_run_made_of_what_is_not_ours_has_its_rows_metrics_and_parameters(trained):
    results = read_json(trained / "results.json")
    assert list(results["rows"])[-4:] == ["outside:Newest", "sharp", "counted", "SASRecLLM + fusion"]
    for row in results["rows"].values():
        assert isinstance(row["metrics"]["mean_score"], float)
    assert results["final"] == "SASRecLLM + fusion" and list(results["ablations"]) == [
        "history shuffled"
    ]
    fusion = read_json(trained / "stages/3-fusion/parts/fusion/part.json")["config"]
    assert fusion["components"] == ["encoder", "likes", "outside:Newest"] and fusion["worded"] == []
    assert results["parameters"]["outside:COUNTS"] == 60
    stage = read_json(trained / "stages/2-counts/stage.json")
    assert stage["task"] == "outside:Count" and stage["result"]["likes"] > 0
    part = read_json(trained / "stages/1-encoder/parts/encoder/part.json")
    assert part["config"]["kind"] == "outside:Sharp" and part["config"]["sharpness"] == 2.0


def test_it_answers_from_its_folder_once_its_module_is_allowed(trained, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")
    with pytest.raises(ConfigError, match="allow-plugin outside"):
        SASRecLLM.from_pretrained(trained)
    system = SASRecLLM.from_pretrained(trained, allow_plugins=["outside"])
    assert system.parts.encoder.sharpness == 2.0
    assert len(system.recommend(user=system.catalog.user_ids[0], k=3)) == 3
    asked = system.dataset.questions("test")
    rows = system.dataset.rows("train")
    likes = np.bincount(system.dataset.items[rows], system.dataset.labels[rows], system.catalog.n_items)
    stages = RunFolder(trained).stage_folders()
    assert load_scores(stages[1])["test"].tolist() == likes[asked.targets].tolist()
    live = system.score(asked.histories, asked.targets[:, None])[:, 0]
    # Batches of another size are other kernels: single precision, added in another order.
    np.testing.assert_allclose(live, load_scores(stages[2])["test"], rtol=0, atol=1e-5)


def test_it_is_judged_again(trained, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "outside")
    before = read_json(trained / "results.json")
    evaluate_again(reopen_run(trained, quiet=True))
    assert read_json(trained / "results.json") == before


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"encoder": {"args": {"sharp": 1}}}, "sharpness"),
        ({"encoder": {"args": {"width": 1}}}, r"write encoder\.width"),
        ({"encoder": {"kind": "sasrec", "args": {"sharpness": 1}}}, "allowed for sasrec: none"),
        ({"encoder": {"loss": "outside:NOTHING"}}, "no Loss"),
        ({"encoder": {"loss": "bcee"}}, "did you mean 'bce'"),
        ({"evaluation": {"metrics": ["outside:NOTHING"]}}, "no function"),
        ({"evaluation": {"metrics": ["outside:nowhere"]}}, "cannot be imported"),
        ({"evaluation": {"baselines": ["outside:nowhere"]}}, "cannot be imported"),
        ({"strategy": [STAGES[0] | {"task": "outside:NOTHING"}]}, "no Kind"),
        ({"strategy": [STAGES[0] | {"train": ["outside:NOTHING"]}]}, "no Part"),
        ({"strategy": [STAGES[1] | {"train": ["encoder"]}]}, r"allowed: \[outside:COUNTS\]"),
    ],
)
def test_what_is_no_such_thing_is_refused_before_anything_is_trained(modules, tmp_path, changed, says):
    values = {k: {**v, **changed.get(k, {})} if isinstance(v, dict) else v for k, v in NAMED.items()}
    values |= {k: v for k, v in changed.items() if k == "strategy"}
    if "kind" in changed.get("encoder", {}):
        values["strategy"], values["encoder"]["loss"] = STAGES[:1], "bce"
    with pytest.raises(ConfigError, match=says):
        check_settings(open_run(tmp_path / "run", parse_config(values, "test"), "test", quiet=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder.kind", "somebodys:Thing"),
        ("encoder.loss", "somebodys:Thing"),
        ("evaluation.baselines", ["item mean", "somebodys:Thing"]),
        ("evaluation.metrics", ["somebodys:Thing"]),
        ("fusion.components", ["encoder", "somebodys:Thing"]),
        ("strategy", [STAGES[0] | {"task": "somebodys:Thing"}]),
        ("strategy", [STAGES[0] | {"train": ["somebodys:Thing"]}]),
        ("strategy", [STAGES[0] | {"load": {"somebodys:Thing": "runs/other"}}]),
    ],
)
def test_nothing_that_a_run_names_is_imported_by_opening_it(tmp_path, monkeypatch, key, value):
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "somebodys.py").write_text("raise SystemExit('imported')")
    section, _, name = key.partition(".")
    values = {section: {name: value}} if name else {section: value}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"somebodys:Thing.*opening it would import") as refusal:
        stored_config(RunFolder(tmp_path))
    assert key in str(refusal.value)
    assert stored_config(RunFolder(tmp_path), ["somebodys"])


def test_an_outside_kind_serves_several_stages(modules):
    twice = [*STAGES, STAGES[1] | {"name": "again", "row": "again"}]
    stages = planned(parse_config(NAMED | {"strategy": twice}, "test"))
    assert [s.kind.name for s in stages.values()][1:3] == ["outside:Count", "outside:Count"]


WRONG = """
import numpy as np
import torch
from sasrecllm.encoders.mf import MF
from sasrecllm.stages.kind import Kind


class Made:
    name = "made"

    def __init__(self, rows):
        pass


class Raises(Made):
    def score(self, histories, candidates):
        raise ValueError("no luck")


class NoFile(Made):
    def score(self, histories, candidates):
        open("/no/such/file")


class Unmade:
    def __init__(self, rows):
        raise KeyError("x")


class NaN(Made):
    def score(self, histories, candidates):
        return np.where(candidates > 0, np.nan, 0.0)


class Flat(Made):
    def score(self, histories, candidates):
        return np.zeros(len(candidates))


class Words(Made):
    def score(self, histories, candidates):
        return [["good"] * len(row) for row in candidates]


class Nothing(Made):
    def score(self, histories, candidates):
        pass


def nobody(rows):
    pass


NUMBER = 3


def raises(answers):
    raise RuntimeError("no metric")


def nan(answers):
    return float("nan")


def words(answers):
    return "good"


def several(answers):
    return np.zeros(3)


def single(answers):
    return np.float32(0.25)


def undefined(answers):
    return None


def no_split(rows):
    pass


def other_split(rows):
    raise ValueError("no rule")


def no_tables(request):
    pass


def other_tables(request):
    raise ValueError("no rows")


class Breaks(MF):
    def states(self, *batch):
        return super().states(*batch) @ torch.zeros(3, 5)


class Stage(Kind):
    may_train = (frozenset({"encoder"}),)

    def fit(self, work, stage, folder):
        return {"share": 1 // len(work.stages.get("nobody", ""))}
"""


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "unread.py").write_text("raise RuntimeError('not today')\n")
    (tmp_path / "unwritten.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, "outside")
    for name in ("wrong", "unread", "unwritten"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path / "wrong.py"
    sys.modules.pop("wrong", None)


def files_of(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("key", "name", "says"),
    [
        ("baselines", "Raises", r"wrong:Raises failed: ValueError: no luck \(.*wrong\.py, line \d+\)"),
        ("baselines", "NoFile", r"wrong:NoFile failed: FileNotFoundError.*wrong\.py, line \d+"),
        ("baselines", "Unmade", r"wrong:Unmade failed: KeyError: 'x'"),
        ("baselines", "Made", "wrong:Made made a Made without a method score"),
        ("baselines", "nobody", "wrong:nobody made a NoneType without a method score"),
        ("baselines", "NUMBER", "'wrong:NUMBER', which is of type int"),
        ("baselines", "NaN", r"wrong:NaN gave nan \(.* scores are not finite\)"),
        ("baselines", "Flat", r"of type float64 and shape \(\d+,\) for candidates of shape \(\d+, 1\)"),
        ("baselines", "Words", r"of type <U4 and shape"),
        ("baselines", "Nothing", r"of type object and shape \(\)"),
        ("metrics", "raises", r"wrong:raises failed: RuntimeError: no metric \(.*wrong\.py, line"),
        ("metrics", "nan", "wrong:nan gave nan; allowed: a finite number, or None"),
        ("metrics", "words", "wrong:words gave 'good'"),
        ("metrics", "several", "wrong:several gave array"),
    ],
)
def test_what_a_plug_in_does_wrong_is_a_refusal_that_names_it_and_changes_nothing(
    trained, wrong, key, name, says
):
    before = files_of(trained)
    with run_again(trained, quiet=True) as again:
        again.config = judged_by(again.config, [f"evaluation.{key}=[wrong:{name}]"])
        with pytest.raises(ConfigError, match=says):
            evaluate_again(again)
    assert files_of(trained) == before


def test_a_number_of_a_metric_may_be_numpys_and_nothing_where_it_is_undefined(trained, wrong):
    found = further_metrics(["wrong:single", "wrong:undefined"])
    values = {name: metric(None) for name, metric in found.items()}
    assert values == {"single": 0.25, "undefined": None} and type(values["single"]) is float


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.split=wrong:no_split", "gave codes of shape"),
        ("data.split=wrong:other_split", r"wrong:other_split failed: ValueError: no rule"),
        ("data.split=wrong:NUMBER", "no function"),
        ("data.source=wrong:no_tables", "gave a NoneType"),
        ("data.source=wrong:other_tables", r"wrong:other_tables failed: ValueError: no rows"),
        ("data.source=wrong:NUMBER", "no function"),
        (
            "data.source=unread:x",
            r"cannot be imported: RuntimeError: not today \(.*unread\.py, line",
        ),
        ("data.source=unwritten:x", r"cannot be imported: SyntaxError: .*unwritten\.py, line 1"),
    ],
)
def test_a_rule_or_source_that_fails_is_a_refusal(wrong, tmp_path, override, says):
    config = load_config(TINY, [override])
    with pytest.raises(ConfigError, match=says):
        prepare(open_run(tmp_path / "run", config, "test", quiet=True))
    assert not (tmp_path / "run/data").exists()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("encoder.kind=wrong:Breaks", r"wrong:Breaks failed: RuntimeError: .*wrong\.py, line \d+"),
        ("strategy=[{name: a, task: 'wrong:Stage', train: [encoder], row: a}]",
         r"wrong:Stage failed: ZeroDivisionError: .*wrong\.py, line \d+"),
    ],
)  # fmt: skip
def test_an_encoder_or_a_stage_that_fails_while_it_is_trained_is_a_refusal(
    wrong, tmp_path, override, says
):
    changes = ["strategy=encoder-only", "lists.enabled=false", override]
    with (
        pytest.raises(ConfigError, match=says) as refused,
        run_at_work(tmp_path / "run", load_config(TINY, changes), "test", quiet=True) as opened,
    ):
        run_all(opened)
    assert refused.value.exit_code == 2


def test_what_our_own_rows_raise_stays_what_it_is(wrong):
    with pytest.raises(ZeroDivisionError), plugins.called("item mean"):
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), plugins.at_work(["sasrec", "wrong:Breaks"]):
        1 / 0  # noqa: B018
