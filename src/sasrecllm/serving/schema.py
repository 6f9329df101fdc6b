"""What goes over the wire, with its limits: the schema that ``/openapi.json`` shows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

LONGEST_ID = 128
# One alphabet for every text: PostgreSQL holds no NUL, so nothing that is sent may hold one.
NO_NUL = r"^[^\x00]*$"
# A title must hold something besides spaces, controls and direction marks, which are taken out.
SAYS_SOMETHING = r"^[^\x00]*[^\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069][^\x00]*$"
NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"


def _short_id(value: str) -> str:
    if len(value.encode()) > LONGEST_ID:
        raise ValueError(f"an id has at most {LONGEST_ID} bytes in UTF-8")
    return value


Id = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_ID, pattern=NO_CONTROLS),
    AfterValidator(_short_id),
]


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 5.0 is the integer 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Title = Annotated[str, Field(min_length=1, max_length=256, pattern=SAYS_SOMETHING)]
Value = Annotated[str, Field(max_length=256, pattern=NO_NUL)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_ID, pattern=NO_NUL)]
Attributes = Annotated[dict[Name, Value | None], Field(max_length=32)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [value]})


class KnownItem(_Wire):
    """An item of the catalogue."""

    item_id: Id
    liked: bool = True


class TitledItem(_Wire):
    """Something outside the catalogue, by its words."""

    title: Title
    liked: bool = True


Entry = Id | KnownItem | TitledItem


class Ask(_Wire):
    """About whom: a known user, a history, or both (the history then comes after what is known)."""

    user: Id | None = None
    history: list[Entry] = Field(
        [], max_length=500, description="oldest first; ids unknown are ignored"
    )


class RecommendRequest(Ask):
    """Ask for a list."""

    model_config = _example(
        {"history": ["m0003", {"item_id": "m0151", "liked": False}, {"title": "A quiet film"}], "k": 5}
    )
    k: Whole = Field(10, ge=1, le=100, description="length of the list")
    retrieve: Whole = Field(100, ge=1, le=1000, description="candidates that the encoder hands over")
    only: list[Id] | None = Field(None, max_length=1000, description="recommend nothing but these")
    where: dict[Name, Value] | None = Field(None, max_length=8, description="attribute -> wanted value")
    rerank: bool = Field(True, description="false: the encoder's own order, for comparison")


class ScoreRequest(Ask):
    """Ask for the probability of given items."""

    model_config = _example({"items": ["m0001", "m0002"], "history": ["m0003"]})
    items: list[Id] = Field(min_length=1, max_length=1000)


class ExplainRequest(Ask):
    """Ask why an item is or is not for this user."""

    model_config = _example({"item": "m0001", "history": ["m0003", "m0151"]})
    item: Id


class NewItemBody(_Wire):
    """An item to add."""

    item_id: Id
    title: Title
    attributes: Attributes = {}


class ItemsRequest(_Wire):
    """Items to add; one that was added before takes the new title."""

    model_config = _example({"items": [{"item_id": "new-1", "title": "A film of tomorrow"}]})
    items: list[NewItemBody] = Field(min_length=1, max_length=1000)


class Feedback(_Wire):
    """One opinion of one user."""

    user_id: Id
    item_id: Id
    liked: bool = True


class InteractionsRequest(_Wire):
    """Feedback to keep, oldest first."""

    model_config = _example({"interactions": [{"user_id": "anna", "item_id": "m0003", "liked": True}]})
    interactions: list[Feedback] = Field(min_length=1, max_length=1000)


class Answer(BaseModel):
    """What every answer of the model says."""

    model: str = Field(description="digest of the run that answered")
    ignored: list[str] = Field(description="ids of the request that the catalogue does not hold")


class RecommendationBody(BaseModel):
    """One line of a list."""

    rank: int
    item_id: str
    title: str
    score: float
    probability: float
    retrieval_rank: int | None = None
    flags: list[str] = []


class RecommendResponse(Answer):
    """A list, best first."""

    user: str | None
    fallback: str | None = Field(description="'popular' where nothing was known about the user")
    recommendations: list[RecommendationBody]


class ScoredItem(BaseModel):
    """An item's calibrated probability of being liked."""

    item_id: str
    probability: float


class ScoreResponse(Answer):
    """Probabilities, in the order asked."""

    user: str | None
    scores: list[ScoredItem]


class ExplainResponse(Answer):
    """Reasons."""

    user: str | None
    explanation: dict[str, Any]


class ItemBody(BaseModel):
    """An item of the catalogue."""

    item_id: str
    title: str
    attributes: dict[str, str | None]
    added: bool = Field(description="told to this server, not part of the run")


class ItemsFound(BaseModel):
    """Items that fit a search."""

    items: list[ItemBody]
    total: int


class ItemsKept(BaseModel):
    """What was kept."""

    added: int
    changed: int


class InteractionsKept(BaseModel):
    """What was kept."""

    stored: int
    unknown_items: list[str] = Field(description="kept, but not in the catalogue (yet)")


class UsersFound(BaseModel):
    """Users of the run whose id fits a search."""

    users: list[str]
    total: int


class HistoryLine(BaseModel):
    """One thing that is known of a user."""

    item_id: str
    title: str
    liked: bool


class UserBody(BaseModel):
    """A user and the last of what is known of them, oldest first."""

    user_id: str
    known: bool
    history: list[HistoryLine]


class UserForgotten(BaseModel):
    """A user is in no file of the run and of the store any more."""

    user_id: str
    forgotten: bool


class Health(BaseModel):
    """State of the process."""

    status: str
    run: str | None = None
    model: str | None = None
    reload_error: str | None = None
