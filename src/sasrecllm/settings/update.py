"""``update.*``: a run that goes on from another one, with the rows that came since."""

from __future__ import annotations

from pydantic import Field

from sasrecllm.settings.section import Section


class Update(Section):
    """How a run goes on from another (written by ``sasrecllm update``; docs/operations.md)."""

    of: str = Field("", description="run folder that it goes on from; empty: a run of its own")
    store: str = Field("", description="written by update --from-store: which store it has rows of")
    told: int = Field(
        0, ge=0, description="by update --from-store: number of the last row that it took"
    )
    waiting: list[int] = Field(
        default_factory=list,
        description="written by update --from-store: numbers of earlier rows that wait for their item",
    )
    valid: float = Field(
        0.1, gt=0, le=0.4, description="share of the new rows that are validation, before the test"
    )
    test: float = Field(
        0.1,
        gt=0,
        le=0.4,
        description="share of the new rows, the newest, that are the test; of few up to a quarter",
    )
    replay: float = Field(
        1.0, ge=0, description="old training rows learnt again for each new one, at least 1,000 in all"
    )
    epochs: int = Field(5, ge=1, description="passes of every training loop over these rows, at most")
    lr: float = Field(1.0, gt=0, le=1, description="share of every training loop's peak rate")
    fresh: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of fresh weights that the encoder of P(like) begins with, if it learns all"
        " rows again; in proportion where it learns a part of them",
    )
