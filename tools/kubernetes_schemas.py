"""JSON schemas, one a kind, from Kubernetes' own OpenAPI document, as kubeconform reads them from a folder.

The schemas that kubeconform knows by itself are made from the same document, but lie where a build machine may not
reach. Stricter than the API server in one thing: a key that it would drop is an error. Not in here: where the document
comes from.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# kubeconform's template for a file's name; `Group` is the version itself in the core group.
TEMPLATE = "{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json"
# Strings to OpenAPI, whose custom decoders take numbers too.
NUMBERS_TOO = (
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
)
REFERENCE = "#/definitions/"

Schema = dict[str, Any]


def write_schemas(openapi: Mapping[str, Any], folder: Path) -> None:
    """Write a schema of each kind that the document has.

    Args:
        openapi: Kubernetes' `swagger.json`.
        folder: Where to.
    """
    definitions = {name: _strict(definition) for name, definition in openapi["definitions"].items()}
    for name in NUMBERS_TOO:
        definitions[name] = {"type": ["string", "number"]}
    for name, definition in openapi["definitions"].items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            used = {other: definitions[other] for other in sorted(_reachable(definitions, name))}
            _write(folder, kind, {"allOf": [{"$ref": REFERENCE + name}], "definitions": used})


def write_custom_schema(crd: Mapping[str, Any], folder: Path) -> None:
    """Write a schema of each version of a CustomResourceDefinition."""
    spec = crd["spec"]
    for version in spec["versions"]:
        kind = {"group": spec["group"], "version": version["name"], "kind": spec["names"]["kind"]}
        _write(folder, kind, _strict(version["schema"]["openAPIV3Schema"]))


def _write(folder: Path, kind: Mapping[str, str], schema: Schema) -> None:
    group = kind["group"] or kind["version"]
    (folder / f"{kind['kind'].lower()}-{group}-{kind['version']}.json").write_text(json.dumps(schema))


def _strict(schema: Any) -> Any:
    """Return a schema in which an object has no other properties than those that are named, at every depth."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not is_open:
        strict["additionalProperties"] = False
    return strict


def _reachable(definitions: Mapping[str, Schema], name: str) -> set[str]:
    """Return the names of all definitions that one needs, itself included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += _references(definitions[current])
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(REFERENCE)
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
