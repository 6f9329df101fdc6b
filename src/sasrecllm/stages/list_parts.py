"""What a list fusion learns beside its weights: how new items are listed, and what P(like) is worth.

Legend: B histories, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sasrecllm.baselines.catalogue import ListChannel, distinct_likes
from sasrecllm.data.candidates import servable_items
from sasrecllm.data.dataset import Dataset
from sasrecllm.fusion.contests import PLACES, blocks, compete, is_above
from sasrecllm.fusion.list_fusion import ListFusion, knows_new_items
from sasrecllm.fusion.list_rerank import Rerank, reranked_contests
from sasrecllm.fusion.new_items_in_lists import NewItems, fit_offset
from sasrecllm.seeds import PRETENDED_NEW, RERANKED_LIKES
from sasrecllm.stages.kind import Work
from sasrecllm.stages.list_budget import prompt_budget
from sasrecllm.types import BoolArray, Free, Histories, Questions, asks_by_prompts

FEWEST_LIKES = 20
"""Likes of which an offset, or the weight of a score, can be learnt."""
PRETENDED = 0.2
"""Share of the liked items that are taken for new where too few new ones are liked."""
RERANKED = 500
"""Likes that the weight of P(like) is fitted on, at most."""


WITHOUT_OFFSET = "without an offset"


def with_new_items(
    work: Work, fusion: ListFusion, channels: Sequence[ListChannel], new: NewItems, likes: Questions
) -> ListFusion:
    """``fusion`` with the best way to list the items that no training row likes.

    Its weights were fitted among liked items; here all items compete, on all validation likes.  The
    ways: with the offset fitted to new items or without any, whichever has the higher NDCG@10, and in
    place of the whole mixture one channel that knows new items by itself, where that is surely better:
    so a list is not worse than such a channel where most of what is liked next is new, and one like
    that it hit by luck is no reason to serve it alone.

    Args:
        fusion: over channels of the training rows, without new items.
        channels: all of them, those of weight 0 too.
        new: those of the catalogue.
    """
    offset = fitted_offset(work, fusion, new, likes)
    plain = replace(fusion, new=new.with_offset(0.0))
    fitted = replace(fusion, new=new.with_offset(offset))
    if not len(new.items):
        return fitted  # for items that are added later
    alone = [channel for channel in channels if knows_new_items(channel)]
    contests, _ = compete(
        [fitted, plain, *alone],
        likes.histories,
        likes.targets,
        free=servable_items(work.dataset),
        n_items=work.dataset.n_items,
        best=PLACES,
        progress=work.run.progress.bar("lists: ways to list new items"),
    )
    gains = np.stack([contests.gains(row) for row in np.eye(2 + len(alone))])
    means, users = gains.mean(1), likes.histories.users
    names = [fusion.name, WITHOUT_OFFSET, *(channel.name for channel in alone)]
    whole = {name: float(mean) for name, mean in zip(names, means, strict=True)}
    mixture, best = int(np.argmax(means[:2])), int(np.argmax(means))
    if best > 1 and is_above(gains[best], gains[mixture], users):
        return replace(fitted.alone(alone[best - 2]), whole=whole)
    return replace((fitted, plain)[mixture], whole=whole)


def fitted_offset(work: Work, fusion: ListFusion, new: NewItems, likes: Questions) -> float:
    """What is added to the score of an item without a like, for the weights of ``fusion``.

    Fitted on the validation likes of such items.  Which of them could be had by then nobody knows:
    those that another user met in validation compete, so that no item is there because of the very like
    that it is to explain.  Where fewer than ``FEWEST_LIKES`` such likes exist, a seeded fifth of the
    liked items is taken for new.

    Args:
        fusion: over channels of the training rows, without new items.
        new: those of the catalogue.
    """
    data = work.dataset
    liked_I = np.ones(data.n_items, dtype=np.bool_)
    liked_I[new.items] = False
    free = met_by_others(data, servable_items(data), liked_I)
    on_new = np.flatnonzero(new.known_I[likes.targets])
    there = 0
    for part in blocks(len(on_new), data.n_items):
        asked = on_new[part]
        free_BI = free(likes.histories.take(asked))
        there += int(free_BI[np.arange(len(asked)), likes.targets[asked]].sum())
    if there < FEWEST_LIKES:
        rng = np.random.default_rng([work.config.seed, PRETENDED_NEW])
        hidden_I = liked_I & (rng.random(data.n_items) < PRETENDED)
        new = NewItems.of(new.words, hidden_I, liked_I & ~hidden_I)
        free = servable_items(data, liked_I)
    return fit_offset(
        replace(fusion, new=new).scores,
        new.known_I,
        likes.histories,
        likes.targets,
        free=free,
        best=work.config.lists.best,
        progress=work.run.progress.bar("lists: new items"),
    )


def met_by_others(data: Dataset, free: Free, liked_I: BoolArray) -> Free:
    """What is ``free``, liked in training or met by another user in validation."""
    rows = data.rows("valid")
    met = distinct_likes(data.users[rows], data.items[rows], data.n_users, data.n_items)
    users_I = np.bincount(met.items, minlength=data.n_items)

    def there(histories: Histories) -> BoolArray:
        others_BI = np.tile(users_I, (len(histories), 1))
        for row, user in enumerate(histories.users):
            if 0 <= user < data.n_users:
                others_BI[row, met.items[met.offsets[user] : met.offsets[user + 1]]] -= 1
        return free(histories) & (liked_I | (others_BI > 0))

    return there


def fitted_rerank(work: Work, fusion: ListFusion, likes: Questions) -> Rerank | None:
    """What the score of the run's last row is worth among the best items of ``fusion``.

    On a seeded sample of ``likes``; of a language model's row in half of what its lists may cost.  New
    items compete as they do for their offset, so that a score which prefers them for being new is not
    paid for it in a log that has each of them because it was liked.  None where it is not weighed,
    which is said.
    """
    c, data = work.config, work.dataset
    if not c.lists.rerank:
        return None
    rows = {name: stage for name, stage in work.stages.items() if stage.kind.has_row}
    final = list(rows.values())[-1]
    scorer, most = final.kind.scorer(work.system, final, rows), RERANKED
    best = min(c.lists.best, data.n_items)
    if asks_by_prompts(scorer):
        most = min(most, prompt_budget(c, data, rows) // 2 // best)
    if min(most, len(likes)) < FEWEST_LIKES:
        work.run.progress.line(
            f"lists: P(like) of {scorer.name} is not weighed as a channel, and not asked for the order"
            f" of lists: {FEWEST_LIKES} validation likes would cost more than a twentieth of the run,"
            " or there are fewer"
        )
        return None
    rng = np.random.default_rng([c.seed, RERANKED_LIKES])
    sample = np.sort(rng.permutation(len(likes))[:most])
    liked_I = work.system.interactions(("train",)).means.likes > 0
    contests, scale = reranked_contests(
        scorer,
        fusion.scores,
        likes.histories.take(sample),
        likes.targets[sample],
        free=met_by_others(data, servable_items(data), liked_I),
        n_items=data.n_items,
        best=best,
        progress=work.run.progress.bar(f"lists: P(like) of {scorer.name}"),
    )
    users = likes.histories.users[sample]
    return Rerank.fit(scorer, contests, scale, users, best=best, seed=c.seed)
