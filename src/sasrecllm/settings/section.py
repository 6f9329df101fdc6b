"""What every group of settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MOST_SEED = 2**53
"""Of a random draw; every generator takes it, and a JSON file gives it back as it was."""


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
