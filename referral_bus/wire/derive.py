"""The Avro schema a model stands for.

The ``.avsc`` files are what the world reads; the models are what the code uses. This derivation is how a test holds the two equal,
and how ``make schemas`` writes the file of a new or changed message.
"""

from __future__ import annotations

import types
from inspect import cleandoc
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from referral_bus.contracts.ledger import Event, Meta
from referral_bus.contracts.message import Message

Schema = Any
"""A parsed ``.avsc``: a type name, a union as a list, or an object."""

_PRIMITIVE: dict[Any, str] = {str: "string", int: "long", bool: "boolean", bytes: "bytes"}


def avro_schema(message: type[Message]) -> dict[str, Schema]:
    """The self-contained Avro record schema of a message. An event's record has its ``meta`` before its own fields.

    Raises TypeError for a field whose type has no single Avro form.
    """
    known: set[str] = set()
    schema = _record(message, known)
    if issubclass(message, Event):
        schema["fields"].insert(0, {"name": "meta", "type": _record(Meta, known)})
    return schema


def _full_name(model: type[BaseModel]) -> tuple[str, str]:
    if issubclass(model, Message):
        namespace, _, name = model.schema_name().rpartition(".")
        return namespace, name
    return f"org.referralbus.{model.__module__.rpartition('.')[2]}", model.__name__


def _record(model: type[BaseModel], known: set[str]) -> dict[str, Schema]:
    namespace, name = _full_name(model)
    known.add(f"{namespace}.{name}")
    doc = " ".join(cleandoc(model.__doc__ or "").split("\n\n")[0].split())
    fields = [_field(key, info, known) for key, info in model.model_fields.items()]
    return {"type": "record", "name": name, "namespace": namespace, "doc": doc, "fields": fields}


def _field(name: str, info: FieldInfo, known: set[str]) -> dict[str, Schema]:
    field: dict[str, Schema] = {"name": name, "type": _type(info.annotation, known, name)}
    if not info.is_required():
        default = info.get_default(call_default_factory=True, validated_data={})
        field["default"] = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    return field


def _type(annotation: Any, known: set[str], where: str) -> Schema:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], known, where)
    if origin is Literal and all(isinstance(value, str) for value in arguments):
        return "string"
    if origin is Literal and all(type(value) is int for value in arguments):
        return "long"
    if origin in (Union, types.UnionType):
        branches: list[Schema] = []
        for argument in arguments:
            if argument is types.NoneType:
                continue
            branch = _type(argument, known, where)
            if branch not in branches:
                branches.append(branch)
        if len(branches) != 1:
            raise TypeError(f"{where}: a union of several types can't evolve; use one optional field each")
        return ["null", branches[0]] if types.NoneType in arguments else branches[0]
    if origin is list:
        return {"type": "array", "items": _type(arguments[0], known, where)}
    if origin is dict:
        return {"type": "map", "values": _type(arguments[1], known, where)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        full_name = ".".join(_full_name(annotation))
        return full_name if full_name in known else _record(annotation, known)
    if annotation in _PRIMITIVE:
        return _PRIMITIVE[annotation]
    raise TypeError(f"{where}: {annotation!r} has no Avro form here")
