"""
Read annotations: which codec they ask for, and how they look in code.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from typing import TYPE_CHECKING, Any, Never, NoReturn, Union, get_args, get_origin

from celery_platform.errors import PolicyError
from celery_platform.outcomes import Verdict
from celery_platform.payload.codecs import SCALARS, Codec, Plain, Unchecked

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_platform.payload.validated import Validated

__all__ = ["codec_for", "type_text", "without_verdicts"]


def codec_for(annotation: Any, *, where: str, encode: Callable[[Any], object] = json.dumps) -> Codec:
    """
    Return the codec of *annotation*; *where* names its place for the error.

    Raises `PolicyError` when values of that annotation cannot travel.
    """
    if annotation in (Any, object, inspect.Parameter.empty, NoReturn, Never) or _is_canvas(annotation):
        return Unchecked(encode)
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    kinds = frozenset(type(None) if member is None else member for member in members)
    if kinds <= frozenset(SCALARS):
        return Plain(kinds)
    return _validated(annotation, where)


def without_verdicts(annotation: Any) -> Any:
    """
    Return *annotation* without the verdicts in it: they are answers to the platform and no result.
    """
    if _is_verdict(annotation):
        return inspect.Parameter.empty
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    members = tuple(member for member in get_args(annotation) if not _is_verdict(member))
    return Union[members] if members else inspect.Parameter.empty  # noqa: UP007 - built from a tuple


def _is_verdict(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Verdict)


def _is_canvas(annotation: Any) -> bool:
    # A signature is a dict that the engine reads itself; its class is not imported on this floor.
    return isinstance(annotation, type) and issubclass(annotation, dict) and annotation.__module__.startswith("celery.")


def _validated(annotation: Any, where: str) -> Validated:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

    from celery_platform.payload.validated import Validated

    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False)
    try:
        try:
            adapter = TypeAdapter(annotation, config=config)
        except PydanticUserError as error:
            # Models, dataclasses and typed dicts bring their own configuration.
            if error.code != "type-adapter-config-unused":
                raise
            adapter = TypeAdapter(annotation)
        return Validated.by(adapter)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError, TypeError) as error:
        raise PolicyError(
            f"{where} is annotated {type_text(annotation)}, and values of that type cannot travel as JSON "
            f"({_first_sentence(error)}). Annotate a pydantic model, a dataclass or a standard type, or pass a "
            "reference to the data."
        ) from error


def _first_sentence(error: Exception) -> str:
    return str(error).splitlines()[0].split(". ")[0]


def type_text(annotation: Any) -> str:
    """
    Return *annotation* as it is written in code, without module names.
    """
    if annotation is inspect.Parameter.empty:
        return "any value"
    if annotation is None or annotation is type(None):
        return "None"
    return re.sub(r"\b(?:\w+\.)+(?=\w)|<locals>\.", "", inspect.formatannotation(annotation))
