"""Checks JSON against the models of the official client, which are generated from KFP's OpenAPI."""

import re
from datetime import datetime
from typing import Any

import kfp_server_api

_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "object": (object,),
}


class RefusedError(Exception):
    """A request that the server answers with an error.

    Args:
        status: HTTP status.
        message: What the server says.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def checked(document: Any, kind: str, path: str = "body") -> Any:
    """Return a JSON document if it is one of a kind; a field that the official client does not know is refused.

    Args:
        document: Parsed JSON.
        kind: A type as `openapi_types` has it, e.g. `list[V2beta1Run]`.
        path: Where the document is, for messages.

    Raises:
        RefusedError: with status 400.
    """
    if document is None:
        return None
    if kind in _PLAIN:
        if not isinstance(document, _PLAIN[kind]) or (kind == "int" and isinstance(document, bool)):
            raise RefusedError(400, f"{path}: expected {kind}, received {document!r}")
    elif kind == "datetime":
        _check_time(document, path)
    elif listed := re.fullmatch(r"list\[(.*)\]", kind):
        for index, item in enumerate(document):
            checked(item, listed[1], f"{path}[{index}]")
    elif mapped := re.fullmatch(r"dict\(str, (.*)\)", kind):
        for key, item in document.items():
            checked(item, mapped[1], f"{path}.{key}")
    else:
        _check_model(document, getattr(kfp_server_api.models, kind), path)
    return document


def _check_time(document: Any, path: str) -> None:
    try:
        datetime.fromisoformat(document)
    except (TypeError, ValueError) as error:
        raise RefusedError(400, f"{path}: expected a time, received {document!r}") from error


def _check_model(document: Any, model: Any, path: str) -> None:
    if hasattr(model, "allowable_values"):
        if document not in model.allowable_values:
            raise RefusedError(400, f"{path}: expected one of {model.allowable_values}, received {document!r}")
        return
    if not isinstance(document, dict):
        raise RefusedError(400, f"{path}: expected {model.__name__}, received {document!r}")
    kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for key, item in document.items():
        if key not in kinds:
            raise RefusedError(400, f"{path}: unknown field {key!r} of {model.__name__}")
        checked(item, kinds[key], f"{path}.{key}")
