"""From a checked request to the Python API and back: what runs on the model's threads.

Nothing is computed here: the answer to a request is the Python API's answer to the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sasrecllm.inference.wishes import Wishes
from sasrecllm.serving.problems import Problem
from sasrecllm.serving.schema import (
    Ask,
    ExplainRequest,
    KnownItem,
    RecommendRequest,
    ScoreRequest,
    TitledItem,
)
from sasrecllm.serving.state import ServingState, Snapshot


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and what the store keeps of its user, oldest first."""

    request: Ask
    feedback: Sequence[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class _Person:
    """About whom the model is asked: a user that the run knows, or None; and a history."""

    user: str | None
    history: list[Any]
    ignored: list[str]


class Answers:
    """Answers requests, each from the snapshot that stands when its turn comes.

    Args:
        state: whose snapshot answers.
        retrieve: candidates of the first stage, where a request does not say how many.
    """

    def __init__(self, state: ServingState, retrieve: int = 100) -> None:
        self._state, self._retrieve = state, retrieve
        self._kinds: dict[str, Callable[[Any], Any]] = {
            "recommend": self._recommend,
            "score": self._score,
            "explain": self._explain,
        }

    def __call__(self, kind: str, request: Any) -> Any:
        """The answer to one request of a kind."""
        return self._kinds[kind](request)

    def _recommend(self, asked: Asked) -> dict[str, Any]:
        now, request = self._state.current, asked.request
        assert isinstance(request, RecommendRequest)
        person = self._person(now, asked)
        wishes = {f.name: getattr(request, f.name) for f in fields(Wishes)}
        for name in ("only", "exclude"):
            if wishes[name] is not None:
                person.ignored.extend(i for i in wishes[name] if not now.holds(i))
                wishes[name] = [i for i in wishes[name] if now.holds(i)]
        found = now.system.recommend(
            history=person.history,
            user=person.user,
            k=request.k,
            retrieve=request.retrieve or self._retrieve,
            rerank=request.rerank,
            strict=False,
            **wishes,
        )
        lines = [line.to_dict() for line in found]
        fallback = any("fallback" in line["flags"] for line in lines)
        return self._answer(now, asked, person) | {
            "fallback": "popular" if fallback else None,
            "recommendations": lines,
        }

    def _score(self, asked: Asked) -> dict[str, Any]:
        now, request = self._state.current, asked.request
        assert isinstance(request, ScoreRequest)
        person = self._person(now, asked)
        present = [i for i in request.item_ids if now.holds(i)]
        person.ignored.extend(i for i in request.item_ids if not now.holds(i))
        lines = now.system.scored(present, history=person.history, user=person.user) if present else []
        return self._answer(now, asked, person) | {"scores": [line.to_dict() for line in lines]}

    def _explain(self, asked: Asked) -> dict[str, Any]:
        now, request = self._state.current, asked.request
        assert isinstance(request, ExplainRequest)
        if not now.holds(request.item_id):
            raise Problem(404, "no item of the catalogue has this id")
        person = self._person(now, asked)
        reasons = now.system.explain(
            request.item_id, history=person.history, user=person.user, strict=False
        )
        return self._answer(now, asked, person) | {"explanation": reasons.to_dict()}

    def _person(self, now: Snapshot, asked: Asked) -> _Person:
        """What the store keeps comes before the request's own history; unknown ids drop out."""
        history: list[Any] = [entry for entry in asked.feedback if now.holds(entry[0])]
        ignored = []
        for entry in asked.request.history:
            if isinstance(entry, TitledItem):
                history.append((now.loaded.title(entry.title), entry.liked))
                continue
            raw, liked = (entry.item_id, entry.liked) if isinstance(entry, KnownItem) else (entry, True)
            if now.holds(raw):
                history.append((raw, liked))
            else:
                ignored.append(raw)
        user = asked.request.user_id
        return _Person(user if user is not None and now.knows(user) else None, history, ignored)

    def _answer(self, now: Snapshot, asked: Asked, person: _Person) -> dict[str, Any]:
        request = asked.request
        return {
            "model": now.loaded.model,
            "user_id": request.user_id,
            **({"user": request.user_id} if "user" in request.old_names else {}),
            "ignored": list(dict.fromkeys(person.ignored)),
        }
