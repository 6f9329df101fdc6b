"""``data.*`` and ``recommend.*``: the log, the items, and what may be recommended."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from sasrecllm.settings.section import MOST_SEED, Section


class Data(Section):
    """Where the interactions come from and how they become questions."""

    source: str = Field(
        "known-world",
        description="known-world, ml-1m, ml-100k, ml-latest-small, amazon-books, two-table, files or"
        " frames (those that sasrecllm.fit was given)",
    )
    path: str | None = Field(None, description="file, folder or archive of the source")
    items_path: str | None = Field(None, description="file with item ids and titles (source: files)")
    columns: dict[str, str | None] = Field(
        default_factory=dict,
        description="our column name -> name in your file; null leaves out a column of our name",
    )
    order: Literal["auto", "time", "file"] = Field(
        "auto",
        description="auto: by the order column, else by time, else as the file stands; time: by time,"
        " an order column breaks ties only; file: as the file stands, which breaks all other ties too",
    )
    repeats: Literal["auto", "keep", "first", "last", "refuse"] = Field(
        "auto",
        description="rows of one user, item and moment: keep all, the first or the last of the file, or"
        " refuse them; auto: last for ratings, else keep",
    )
    feedback: Literal["auto", "labels", "ratings", "implicit"] = Field(
        "auto",
        description="auto: labels where there is a label column, ratings likewise, else implicit",
    )
    threshold: float = Field(4.0, description="a rating of this or more is a like")
    split: str = Field("auto", description="auto, given, global-time, leave-one-out, collm or tallrec")
    split_args: dict[str, Any] = Field(
        default_factory=dict,
        description="global-time: valid and test as shares or UTC dates; given: last=true asks only"
        " about each user's last row of a split; leave-one-out: likes=true leaves out likes, and users"
        " with fewer than least only train",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=MOST_SEED,
        description="of the world, held-out shares and negatives; null: the run's seed",
    )
    negatives: int = Field(4, ge=1, description="implicit feedback: sampled negatives per positive")
    cold_items: float = Field(
        0.0, ge=0, le=0.5, description="share of the items that training and validation never see"
    )
    cold_users: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of the users who are never trained or validated on; their earlier rows"
        " are the history of their own test rows",
    )
    on_bad_rows: Literal["refuse", "quarantine"] = Field(
        "refuse", description="quarantine: set refused rows aside with their reasons, and go on"
    )
    words: dict[str, str] = Field(
        default_factory=dict, description="domain words of the prompt: item, items, consumed"
    )
    world: dict[str, Any] = Field(default_factory=dict, description="parameters of known-world")

    @field_validator("columns", mode="before")
    @classmethod
    def _flat(cls, columns: Any) -> Any:
        """``items: {item_id: ...}`` is another way to write ``items.item_id: ...``."""
        if not isinstance(columns, dict):
            return columns
        nested = columns.get("items")
        if isinstance(nested, dict):
            own = {f"items.{key}": value for key, value in nested.items()}
            columns = {key: value for key, value in columns.items() if key != "items"} | own
        # {user_id: 0} is the column "0".
        return {key: str(value) if type(value) is int else value for key, value in columns.items()}


class Recommend(Section):
    """What may be recommended."""

    seen: Literal["auto", "exclude", "allow"] = Field(
        "auto",
        description="items that the user has met before; auto: allow where at least a fifth of the"
        " training rows are on such items (music, groceries), else exclude",
    )
    index: Literal["exact", "faiss"] = Field(
        "exact",
        description="where the encoder's best items are looked up: exact, among all; faiss, near the"
        " user, for more than a million items (needs the extra faiss); may change in a run",
    )
