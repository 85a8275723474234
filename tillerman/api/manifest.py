"""Manifests: YAML or JSON text, one or many documents, to plain dicts and back."""

import json
from typing import Any

import yaml

from tillerman.api.codec import DecodeError, load_json_checked

try:
    from yaml import CSafeDumper as _Dumper
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeDumper as _Dumper  # type: ignore[assignment]
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


class _ManifestLoader(_Loader):
    """YAML as Kubernetes reads it: JSON's types only (no dates), string keys, and no key twice."""

    # Where keys that stand twice are told instead of refused; the last one counts then.
    repeated: list[str] | None = None


_ManifestLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def _mapping(loader: _ManifestLoader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    out: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, bool):
            key = "true" if key else "false"
        elif key is None:
            key = "null"
        elif isinstance(key, (int, float)):
            key = key_node.value
        elif not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, "a mapping key must be a string", key_node.start_mark)
        if key in out:
            fault = f'line {key_node.start_mark.line + 1}: key "{key}" already set in map'
            if loader.repeated is None:
                raise DecodeError([f"error converting YAML to JSON: yaml: {fault}"])
            loader.repeated.append(fault)
        out[key] = loader.construct_object(value_node, deep=True)
    return out


_ManifestLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_documents(text: str) -> list[dict[str, Any]]:
    """Every object of a YAML stream or of JSON text; the items of a List count one by one.

    Raises DecodeError on text that does not parse, on a key that stands twice, and on a document that is no object.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    documents: list[Any]
    if stripped.startswith("{"):
        try:
            parsed, duplicates = load_json_checked(stripped.encode())
        except DecodeError:
            documents = _load_yaml(text)
        else:
            if duplicates:
                raise DecodeError([f'duplicate field "{path}"' for path in duplicates], strict=True)
            documents = [parsed]
    else:
        documents = _load_yaml(text)
    out: list[dict[str, Any]] = []
    for document in documents:
        if document is not None:
            out.extend(_flatten(document))
    return out


def parse_document(text: bytes) -> tuple[Any, str]:
    """(one YAML or JSON document as JSON values, whatever it is; what is wrong with keys that stand twice, or "").

    Raises DecodeError.
    """
    try:
        loader = _ManifestLoader(text)
        loader.repeated = []
        try:
            document = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as e:
        raise DecodeError([_in_go(e)]) from None
    except (UnicodeDecodeError, RecursionError) as e:
        raise DecodeError([f"yaml: {e}"]) from None
    faults = "".join(f"\n  {fault}" for fault in loader.repeated)
    return document, f"yaml: unmarshal errors:{faults}" if faults else ""


def _load_yaml(text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader=_ManifestLoader))
    except yaml.YAMLError as e:
        raise DecodeError([f"error parsing manifest: {_one_line(e)}"]) from None


def _one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"yaml: line {error.problem_mark.line + 1}: {error.problem}"
    return f"yaml: {' '.join(str(error).split())}"


def _in_go(error: yaml.YAMLError) -> str:
    """The fault as Kubernetes' YAML library tells it, which counts lines from 0 and leaves that one out."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return _one_line(error)
    line = (error.context_mark.line if error.context_mark is not None else 0) or error.problem_mark.line
    if line and isinstance(error, yaml.scanner.ScannerError):
        line += 1
    return f"yaml: line {line}: {error.problem}" if line else f"yaml: {error.problem}"


def _flatten(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        raise DecodeError([f"a manifest must be an object, this one is {type(document).__name__}"])
    kind = document.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(document.get("items"), list):
        flat: list[dict[str, Any]] = []
        for item in document["items"]:
            if isinstance(item, dict) and kind != "List":
                item = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List"), **item}
            flat.extend(_flatten(item))
        return flat
    return [document]


class _ManifestDumper(_Dumper):
    pass


def _text(dumper: Any, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)
    return node


_ManifestDumper.add_representer(str, _text)


def to_yaml(data: Any) -> str:
    """Block-style YAML with sorted keys, as kubectl prints it."""
    text: str = yaml.dump(data, Dumper=_ManifestDumper, sort_keys=True, allow_unicode=True, width=2**31 - 1)
    return text


def to_json_text(data: Any) -> str:
    """Indented JSON with sorted keys, as kubectl prints it."""
    return json.dumps(data, indent=4, sort_keys=True, ensure_ascii=False)
