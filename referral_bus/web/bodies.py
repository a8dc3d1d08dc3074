"""What a request's body is read as, at a cost that is bounded however much of it is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

MOST_FAULTS: Final = 100
"""Faults that are looked at one by one. Each becomes objects that take ten times the room and the time of finding it."""

TOO_MANY: Final = "fields are wrong, too many to name one"


def _bounded(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        if error.error_count() <= MOST_FAULTS:
            raise
        count = error.error_count()
    raise PydanticCustomError("too_many_faults", "{count} " + TOO_MANY, {"count": count})


Body = TypeVar("Body")
Given = Annotated[Body, WrapValidator(_bounded)]
"""A body as its model, for the routes. One with more than :data:`MOST_FAULTS` faults has a single one, which counts them."""
