"""The compiled messages against Kubernetes' facts.

fixtures/api_facts.tsv.gz: a line per message: full name, tab, `number:name:type` per field (`*` before the type:
repeated).
"""

import gzip
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

import tillerman.pb.k8s
from tillerman.api.scheme import SCHEME

FACTS = gzip.decompress((Path(__file__).parent / "fixtures" / "api_facts.tsv.gz").read_bytes()).decode().splitlines()
SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_DOUBLE: "double",
}


def compiled() -> dict[str, Descriptor]:
    found = {}
    for module in pkgutil.iter_modules(tillerman.pb.k8s.__path__):
        file = import_module(f"tillerman.pb.k8s.{module.name}").DESCRIPTOR
        found.update({d.full_name: d for d in file.message_types_by_name.values()})
    return found


def type_of(field: FieldDescriptor) -> str:
    if field.message_type is None:
        return SCALARS[field.type]
    if field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return f"map<{type_of(entry['key'])},{type_of(entry['value'])}>"
    return str(field.message_type.full_name)


def test_every_message_has_exactly_the_fields_of_the_facts() -> None:
    messages = compiled()
    differences = []
    for line in FACTS:
        name, _, facts = line.partition("\t")
        descriptor = messages.get(name)
        if descriptor is None:
            differences.append(f"{name}: missing")
            continue
        fields = sorted(descriptor.fields, key=lambda f: f.number)
        ours = " ".join(
            f"{f.number}:{f.name}:{'*' if f.is_repeated and not type_of(f).startswith('map<') else ''}{type_of(f)}"
            for f in fields
        )
        if ours != facts:
            differences.append(f"{name}:\n  facts {facts}\n  ours  {ours}")
    assert not differences, "\n".join(differences)
    assert len(FACTS) > 600


@pytest.mark.parametrize("info", SCHEME.resources(also_served=True), ids=lambda i: f"{i.api_version}/{i.resource}")
def test_every_resource_has_its_message(info) -> None:  # type: ignore[no-untyped-def]
    assert info.message.DESCRIPTOR.full_name == info.message_name
    assert SCHEME.by_message(info.message) is info
    assert SCHEME.by_kind(info.api_version, info.kind) is info
    if info.list_message is not None:
        assert SCHEME.kind_of(info.list_message) == (info.api_version, info.kind + "List")
