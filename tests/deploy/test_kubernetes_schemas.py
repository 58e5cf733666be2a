"""Schemas name what a kind has, and nothing else passes; what has any keys stays open."""

import json

from tools.kubernetes_schemas import write_custom_schema, write_schemas

QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
POD = {
    "type": "object",
    "properties": {
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "size": {"$ref": f"#/definitions/{QUANTITY}"},
    },
    "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
}
OPENAPI = {
    "definitions": {
        "Pod": POD,
        QUANTITY: {"type": "string"},
        "Port": {"type": "string"},
        "Rule": {
            "type": "object",
            "properties": {"ports": {"type": "array", "items": {"$ref": "#/definitions/Port"}}},
            "x-kubernetes-group-version-kind": [{"group": "net.k8s.io", "version": "v2", "kind": "Rule"}],
        },
    }
}


def test_each_kind_has_a_file_with_what_it_needs(tmp_path):
    write_schemas(OPENAPI, tmp_path)
    pod, rule = (json.loads((tmp_path / name).read_text()) for name in ("pod-v1-v1.json", "rule-net.k8s.io-v2.json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pod-v1-v1.json", "rule-net.k8s.io-v2.json"]
    assert (pod["allOf"], pod["definitions"].keys()) == ([{"$ref": "#/definitions/Pod"}], {"Pod", QUANTITY})
    assert rule["definitions"].keys() == {"Rule", "Port"}


def test_objects_are_closed_maps_are_open_and_quantities_may_be_numbers(tmp_path):
    write_schemas(OPENAPI, tmp_path)
    definitions = json.loads((tmp_path / "pod-v1-v1.json").read_text())["definitions"]
    assert definitions["Pod"]["additionalProperties"] is False
    assert definitions["Pod"]["properties"]["labels"]["additionalProperties"] == {"type": "string"}
    assert definitions[QUANTITY]["type"] == ["string", "number"]


def test_custom_kinds_keep_what_they_preserve(tmp_path):
    pool = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
            "any": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    version = {"name": "v1", "schema": {"openAPIV3Schema": pool}}
    write_custom_schema({"spec": {"group": "a.sh", "names": {"kind": "Pool"}, "versions": [version]}}, tmp_path)
    schema = json.loads((tmp_path / "pool-a.sh-v1.json").read_text())
    assert schema["additionalProperties"] is False
    assert schema["properties"]["spec"]["additionalProperties"] is False
    assert "additionalProperties" not in schema["properties"]["any"]
