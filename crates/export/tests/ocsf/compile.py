#!/usr/bin/env python3
"""Makes the validation tables in this folder from compiled OCSF schemas; see README.md for where those come from.

    ocsf-schema-compiler -i PATH-OF-A-CHECKOUT > 1.8.0.compiled.json      (PyPI: ocsf-schema-compiler 1.1.1)
    ./compile.py 1.8.0.compiled.json > 1.8.0.json

A table is complete for the classes and objects that it names: every attribute, with type, requirement, profiles and
enum, and every constraint. Captions and descriptions are left out.
"""
import json
import sys

CLASSES = [
    "base_event", "process_activity", "event_log", "event_log_actvity", "incident_finding", "authentication",
    "entity_management", "user_access", "network_activity", "application_lifecycle", "api_activity",
]
OBJECTS = [
    "actor", "ai_agent", "ai_model", "api", "attestation", "authorization", "device", "digital_signature",
    "finding_info", "fingerprint", "managed_entity", "message_context", "metadata", "network_endpoint", "object",
    "policy", "process", "product", "request", "resource_details", "response", "service", "user",
]


def attribute(source):
    """One attribute: `t` type, `o` object, `a` array, `r` required, `p` profiles (any of), `e` enum."""
    made = {"t": source["type"]}
    if "object_type" in source:
        made["o"] = source["object_type"]
    if source.get("is_array"):
        made["a"] = True
    if source.get("requirement") == "required":
        made["r"] = True
    if source.get("profiles"):
        made["p"] = source["profiles"]
    if source.get("enum") and source["type"] in ("integer_t", "long_t"):
        made["e"] = sorted(int(value) for value in source["enum"])
    elif source.get("enum"):
        made["e"] = sorted(source["enum"])
    return made


def shape(source):
    made = {"attributes": {name: attribute(source["attributes"][name]) for name in sorted(source["attributes"])}}
    if source.get("constraints"):
        made["constraints"] = source["constraints"]
    return made


def main():
    schema = json.load(open(sys.argv[1], encoding="utf-8"))
    classes = {}
    for name in CLASSES:
        if name in schema["classes"]:
            source = schema["classes"][name]
            classes[str(source["uid"])] = shape(source) | {
                "name": source["caption"], "profiles": sorted(source["profiles"])}
    types = {}
    for name, source in schema["dictionary"]["types"]["attributes"].items():
        types[name] = {key: source[key] for key in ("type", "regex", "max_len", "range", "values") if key in source}
    objects = {name: shape(schema["objects"][name]) for name in OBJECTS if name in schema["objects"]}
    table = {"version": schema["version"], "types": types, "classes": classes, "objects": objects}
    json.dump(table, sys.stdout, separators=(",", ":"), sort_keys=True)
    print()


main()
