"""``lists.*`` and ``evaluation.*``: what orders lists, and how everything is judged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from sasrecllm.errors import did_you_mean
from sasrecllm.settings.loops import NextItemLoop
from sasrecllm.settings.section import Section


class NextItem(Section):
    """The next-item encoder: the run's kind of encoder, trained on likes to say what is liked next."""

    seconds: float = Field(
        120,
        gt=0,
        description="most that its training may cost, in seconds of a core of 10 billion operations a"
        " second; operations are counted, so that the number of steps depends on the data alone",
    )
    loop: NextItemLoop = Field(NextItemLoop(), description="its training")


CHANNELS = (
    "popularity",
    "recent popularity",
    "trending",
    "EASE",
    "fading EASE",
    "sequence rules",
    "sequence cosine",
    "ItemKNN",
    "Markov chain",
    "ALS",
    "title words",
    "item attributes",
    "item vectors",
    "repeats",
    "personal frequency",
    "next-item encoder",
)
"""What can fill lists of its own (runs/channels.py)."""


class Lists(Section):
    """What orders the lists of ``recommend``: a fusion of channels (fusion/list_fusion.py)."""

    enabled: bool = Field(True, description="false: lists are ordered by P(like) alone")
    channels: list[str] = Field(
        default_factory=lambda: list(CHANNELS),
        description="what may fill lists; those that the data cannot have are left out",
    )
    best: int = Field(50, ge=1, description="items of every channel that compete for a validation like")
    ridge: float | None = Field(
        None,
        gt=0,
        description="penalty on the squared weights, in likes; null: the largest of several whose lists"
        " are within a standard error of the best, out of fold",
    )
    likes: int = Field(
        2000, ge=1, description="validation likes that the weights are fitted on, at most"
    )
    explore: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="least share of a list's places for items that nobody has liked yet, where one"
        " stands among the first `best`: 0.1 is every tenth place, 0 only those that they win",
    )
    rerank: bool = Field(
        True,
        description="weigh the run's own P(like) as one more channel, for the best of the others alone;"
        " to weigh it, a language model is asked within a twentieth of the run's prompts",
    )
    next_item: NextItem = Field(NextItem(), description="the encoder among the channels")

    @field_validator("channels")
    @classmethod
    def _known(cls, channels: list[str]) -> list[str]:
        for name in channels:
            if name not in CHANNELS:
                raise ValueError(
                    f"there is no channel {name!r}; allowed: {', '.join(CHANNELS)}"
                    + did_you_mean(name, CHANNELS)
                )
        if not channels:
            raise ValueError("no channel is left; name popularity, or set lists.enabled: false")
        return list(dict.fromkeys(channels))


class Ranking(Section):
    """Lists of one liked test item against others (docs/protocol.md)."""

    when: Literal["auto", "always", "never"] = Field(
        "auto",
        description="auto: lists of the whole catalogue (of the language model as many as a tenth of"
        " the run's time allows), and among drawn others where the feedback is implicit; always: all of"
        " them; never: no lists",
    )
    users: int = Field(
        1000,
        ge=1,
        description="lists of the whole catalogue that are judged, at most; of as many users as can be",
    )
    negatives: int = Field(100, ge=0, description="fixed seeded others per list; 0: no such lists")
    rerank: int = Field(
        100, ge=0, description="how many of the encoder's best items each later row reranks; 0: none"
    )


class Evaluation(Section):
    """How results are measured."""

    resamples: int = Field(1000, ge=100, description="user-bootstrap resamples")
    metrics: list[str] = Field(default_factory=list, description="more, as package.module:function")
    ablations: bool = Field(True, description="score the last row with one thing taken away, too")
    ranking: Ranking = Field(Ranking(), description="lists over drawn others and the whole catalogue")
    baselines: list[str] = Field(
        default_factory=list,
        description="rows beside the trivial: for example ItemKNN, or package.module:Class",
    )
