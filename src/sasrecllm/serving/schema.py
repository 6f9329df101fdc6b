"""What goes over the wire, with its limits: the schema that ``/openapi.json`` shows."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

from sasrecllm.data.catalog import LONGEST_TITLE
from sasrecllm.inference.wishes import MOST_FACTOR

LONGEST_ID = 128
MOST_PLACES = 1000
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
Title = Annotated[str, Field(min_length=1, max_length=LONGEST_TITLE, pattern=SAYS_SOMETHING)]
Value = Annotated[str, Field(max_length=256, pattern=NO_NUL)]


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("a name holds no NUL")
    return value


# Pydantic would write the pattern of a name as one of patternProperties, which lets all others in.
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_ID), AfterValidator(_no_nul)]
NAMES: dict[str, Any] = {"propertyNames": {"minLength": 1, "maxLength": LONGEST_ID, "pattern": NO_NUL}}
Attributes = Annotated[dict[Name, Value | None], Field(max_length=32, json_schema_extra=NAMES)]
# A value that stands where a name does: as the key of its factor.
ValueName = Annotated[str, Field(max_length=256), AfterValidator(_no_nul)]
VALUE_NAMES: dict[str, Any] = {"propertyNames": {"maxLength": 256, "pattern": NO_NUL}}
Factor = Annotated[float, Field(ge=1 / MOST_FACTOR, le=MOST_FACTOR)]
Factors = Annotated[dict[ValueName, Factor], Field(max_length=32, json_schema_extra=VALUE_NAMES)]
Places = Annotated[int, Field(ge=1, le=MOST_PLACES), BeforeValidator(_whole)]


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

    OLD_NAMES: ClassVar[dict[str, str]] = {"user": "user_id"}
    """Names of before 2026-11-26, taken for one more version."""
    _old: tuple[str, ...] = PrivateAttr(())

    user_id: Id | None = None
    history: list[Entry] = Field(
        [], max_length=500, description="oldest first; ids unknown are ignored"
    )

    @property
    def old_names(self) -> tuple[str, ...]:
        """Old names that this request used."""
        return self._old

    @model_validator(mode="wrap")
    @classmethod
    def _take_old_names(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        old = [name for name in cls.OLD_NAMES if isinstance(value, dict) and name in value]
        for name in old:
            if cls.OLD_NAMES[name] in value:
                raise ValueError(f"{name} is the old name of {cls.OLD_NAMES[name]}; give that alone")
        if old:
            value = {cls.OLD_NAMES.get(name, name): given for name, given in value.items()}
        made = handler(value)
        made._old = tuple(old)
        return made


class RecommendRequest(Ask):
    """Ask for a list."""

    model_config = _example(
        {"history": ["m0003", {"item_id": "m0151", "liked": False}, {"title": "A quiet film"}], "k": 5}
    )
    k: Whole = Field(10, ge=1, le=100, description="length of the list")
    retrieve: Places | None = Field(
        None, description="candidates that the encoder hands over; null: as the server was started"
    )
    only: list[Id] | None = Field(None, max_length=1000, description="recommend nothing but these")
    exclude: list[Id] | None = Field(None, max_length=1000, description="recommend none of these")
    where: Annotated[dict[Name, Value], Field(max_length=8, json_schema_extra=NAMES)] | None = Field(
        None, description="attribute -> wanted value"
    )
    boost: (
        Annotated[dict[Name, Value | Factors], Field(max_length=8, json_schema_extra=NAMES)] | None
    ) = Field(
        None, description="attribute -> value, or -> {value: factor (2)} for the odds of such items"
    )
    diversity: float = Field(
        0.0, ge=0, le=1, description="0: the list as it is; 1: as mixed as can be (MMR)"
    )
    rerank: bool = Field(
        True, description="false: the encoder's own order, for comparison; not with boost or diversity"
    )
    seen: Literal["exclude", "allow"] | None = Field(
        None, description="items of the history; null: as the run was prepared (recommend.seen)"
    )


class ScoreRequest(Ask):
    """Ask for the probability of given items."""

    OLD_NAMES = {**Ask.OLD_NAMES, "items": "item_ids"}
    model_config = _example({"item_ids": ["m0001", "m0002"], "history": ["m0003"]})
    item_ids: list[Id] = Field(min_length=1, max_length=1000)


class ExplainRequest(Ask):
    """Ask why an item is or is not for this user."""

    OLD_NAMES = {**Ask.OLD_NAMES, "item": "item_id"}
    model_config = _example({"item_id": "m0001", "history": ["m0003", "m0151"]})
    item_id: Id


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


FLAGS = "cold_user, cold_item: no training row; fallback: nothing is known of the user"


class Answer(BaseModel):
    """What every answer of the model says."""

    model: str = Field(description="digest of the run that answered")
    user_id: str | None
    user: str | None = Field(None, deprecated=True, description="user_id, where it was asked as user")
    ignored: list[str] = Field(description="ids of the request that the catalogue does not hold")


class RecommendationBody(BaseModel):
    """One line of a list."""

    rank: int
    item_id: str
    title: str
    score: float
    probability: float
    retrieval_rank: int | None = None
    flags: list[str] = Field([], description=FLAGS)


class RecommendResponse(Answer):
    """A list, best first."""

    fallback: str | None = Field(description="'popular' where nothing was known about the user")
    recommendations: list[RecommendationBody]


class ScoredItem(BaseModel):
    """An item's calibrated probability of being liked."""

    item_id: str
    probability: float
    flags: list[str] = Field(description=FLAGS)


class ScoreResponse(Answer):
    """Probabilities, in the order asked."""

    scores: list[ScoredItem]


class ExplainResponse(Answer):
    """Reasons."""

    explanation: dict[str, Any]


class ItemBody(BaseModel):
    """An item of the catalogue."""

    item_id: str
    title: str
    attributes: dict[str, str | None]
    added: bool = Field(description="told to this server, not part of the run")
    near: bool = Field(
        default=False, description="found by its vector: near to items whose titles hold the words"
    )


class ItemsFound(BaseModel):
    """Items that fit a search."""

    items: list[ItemBody]
    total: int


class AttributeValue(BaseModel):
    """What ``where`` and ``boost`` may name."""

    attribute: str
    value: str
    items: int = Field(description="that have it")


class AttributesFound(BaseModel):
    """Attribute values that fit a search, those of the most items first."""

    values: list[AttributeValue]
    total: int


class ItemsKept(BaseModel):
    """What was kept."""

    added: int
    changed: int


class InteractionsKept(BaseModel):
    """What was kept."""

    stored: int
    unknown_item_ids: list[str] = Field(description="kept, but not in the catalogue (yet)")
    unknown_items: list[str] = Field(deprecated=True, description="old name of unknown_item_ids")


class UsersFound(BaseModel):
    """Users of the run whose id fits a search."""

    user_ids: list[str]
    users: list[str] = Field(deprecated=True, description="old name of user_ids")
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
