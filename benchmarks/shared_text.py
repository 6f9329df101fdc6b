"""How many tokens of a log's prompts a language model reads, where prompts share text.

    sasrecllm prepare --out prepared/ml-1m --config configs/llm/smollm2-135m.yaml llm.title_tokens=16
    python -m benchmarks.shared_text prepared/ml-1m

A row each for what is learnt from (batches of the settings, in the micro-batches that a CPU gets) and
for what validates: the paper's template with its window of titles moving on title by title and in steps
of five, the one that asks before the title, and a list of events in steps of ten and twenty.  Tokens a
prompt, whole and read.  Nothing is trained, and no time is measured.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from sasrecllm.llm.batches import SCORED_ON_A_CPU, of_like_length
from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import Run
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.runs.system import System
from sasrecllm.settings import Config
from sasrecllm.stages.kind import Work
from sasrecllm.stages.settle import TOKENS_ON_A_CPU
from sasrecllm.stages.strategies import all_stages
from sasrecllm.training.batches import micro_batches, plan_epoch
from sasrecllm.training.finetune import AnswerTask
from sasrecllm.types import IntArray, Questions

BATCHES = 60
"""Training batches that are counted."""


WAYS = (
    ("paper-text", 1),
    ("paper-text", 5),
    ("question-first-text", 1),
    ("events-text", 10),
    ("events-text", 20),
)
"""Template, and by how many titles its window moves on; lists of events are asked in no chat."""


def rows(folder: Path, template: str, step: int) -> list[str]:
    """The lines of a prepared folder whose windows move on by ``step`` titles."""
    config = stored_config(RunFolder(folder))
    chat = "off" if template == "events-text" else config.llm.chat
    llm = config.llm.model_copy(update={"history_step": step, "text_prompt": template, "chat": chat})
    config = config.model_copy(update={"llm": llm, "strategy": "text-only"})
    task = _task(folder, config)
    batch, lengths = config.llm.loop.batch_size, task.lengths
    plan = plan_epoch(lengths, batch, config.seed, 0, task.prefix_ids)[:BATCHES]
    learnt = [part for one in plan for part in micro_batches(one, lengths, 1, TOKENS_ON_A_CPU)]
    judged = of_like_length(
        task.validation_lengths, config.llm.score_batch, task.validation_prefix_ids, SCORED_ON_A_CPU
    )
    task.learn()
    name = f"{template}, steps of {step}"
    asked = [task.questions_of(part)[0] for part in learnt]
    found = [_line(f"training, {name}", task, task.questions, asked)]
    task.eval()
    with torch.no_grad():
        found.append(_line(f"validation, {name}", task, task.validation, list(judged)))
    return found


def _task(folder: Path, config: Config) -> AnswerTask:
    dataset = stored_data(RunFolder(folder))
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(RunFolder(Path(scratch)), config, "", Progress(quiet=True))
        work = Work(run, dataset, System.new(run.folder, config, dataset, "cpu"), all_stages(config))
        stage = next(s for s in work.stages.values() if s.kind.asks_language_model)
        found = stage.kind.task(work, stage)
    assert found is not None and isinstance(found[0], AnswerTask)
    return found[0]


def _line(name: str, task: AnswerTask, questions: Questions, batches: list[IntArray]) -> str:
    whole = read = count = 0
    for at in batches:
        asked = questions.take(at)
        batch = task.builder.build(asked.histories, asked.targets)
        once = task.model.read_once(batch)
        whole += int(np.sum(batch.lengths_B))
        read += batch.ids_BT.size if once is None else once.tokens()
        count += len(at)
    return f"| {name} | {count:,} | {whole / count:.0f} | {read / count:.0f} |"


if __name__ == "__main__":
    print("| prompts | rows | tokens of a prompt | read for a prompt |")
    print("|---|---|---|---|")
    for name in sys.argv[1:]:
        print("\n".join(line for template, step in WAYS for line in rows(Path(name), template, step)))
