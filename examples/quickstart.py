"""Without any configuration: a world, an encoder, an honest number.

Run: python examples/quickstart.py
"""

from __future__ import annotations

from sasrecllm import SASRec, evaluate, prepare
from sasrecllm.baselines.trivial import ItemMeanPlusRunningMean, TrainMeans
from sasrecllm.data.interactions import Tables
from sasrecllm.data.sequences import windows
from sasrecllm.data.synthetic.world import known_world
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.settings import LoopSettings
from sasrecllm.training.loop import fit
from sasrecllm.training.pretrain import EncoderTask

if __name__ == "__main__":
    world = known_world(users=200, items=150, rows=20, seed=0)
    data = prepare(Tables(world.interactions, world.items, "world", {}), split="given")
    encoder = SASRec(n_items=data.n_items, width=32, length=20, seen_items=data.seen_items)
    cut = windows(data, length=20, likes_only=True, rows=data.rows("train"))
    task = EncoderTask("encoder", encoder, cut, data.questions("valid"))
    fit(task, LoopSettings(epochs=5, batch_size=16, lr=2e-3))

    train = data.rows("train")
    means = TrainMeans.fit(
        data.users[train],
        data.items[train],
        data.labels[train],
        n_users=data.n_users,
        n_items=data.n_items,
    )
    for scorer in (ItemMeanPlusRunningMean(means), EncoderScorer("SASRec", encoder)):
        judged = evaluate(scorer, data.questions("test"), resamples=200)
        print(scorer.name, {k: judged.intervals[k] for k in ("auc", "uauc")})
