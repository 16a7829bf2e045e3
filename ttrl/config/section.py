"""What every section of the settings has in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ttrl.times import Duration

Ratio = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Patience = Annotated[Duration, Field(gt=timedelta())]


class Section(BaseModel):
    """Settings are read once and never change; a name that is not known is refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
