"""From what people write to resources and objects: `pods`, `deploy/web`, `po,svc`, `-f file|folder|-|URL`."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tillerman.api.scheme import SCHEME
from tillerman.cli.session import Session

Object = dict[str, Any]
MANIFEST_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Kind:
    """A resource as verbs need it, built in or custom."""

    api_version: str
    resource: str
    singular: str
    kind: str
    namespaced: bool

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def qualified(self) -> str:
        """ "deployment.apps": as messages name it."""
        return f"{self.singular}.{self.group}" if self.group else self.singular


@dataclass(frozen=True)
class Ref:
    """One named object."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.qualified}/{self.name}"


async def find_kind(session: Session, word: str) -> Kind:
    """Raises LookupError in kubectl's words."""
    try:
        info = SCHEME.lookup(word)
        return Kind(info.api_version, info.resource, info.singular, info.kind, info.namespaced)
    except LookupError:
        pass
    wanted, _, group = word.lower().partition(".")
    for found in await session.client.discover():
        own = found.api_version.rpartition("/")[0]
        if group and group != own:
            continue
        if wanted in (found.resource, found.singular, found.kind.lower(), *found.short_names):
            return Kind(found.api_version, found.resource, found.singular, found.kind, found.namespaced)
    raise LookupError(f'the server doesn\'t have a resource type "{word}"')


async def find_kinds(session: Session, word: str) -> list[Kind]:
    """The kinds of a category such as `all`, custom resources included, or the one kind of that name. Raises
    LookupError in kubectl's words.
    """
    found = [Kind(i.api_version, i.resource, i.singular, i.kind, i.namespaced) for i in SCHEME.category(word)]
    if not found:
        try:
            return [await find_kind(session, word)]
        except LookupError as error:
            missing = error
    seen: set[tuple[str, str]] = set()
    for custom in await session.client.discover():
        own = (custom.api_version.rpartition("/")[0], custom.resource)
        if custom.custom and word in custom.categories and own not in seen:
            seen.add(own)
            found.append(Kind(custom.api_version, custom.resource, custom.singular, custom.kind, custom.namespaced))
    if not found:
        raise missing
    return found


async def kind_of(session: Session, obj: Object) -> Kind:
    """The resource of an object by its apiVersion and kind. Raises LookupError in kubectl's words."""
    api_version, kind = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
    try:
        info = SCHEME.by_kind(api_version, kind)
        return Kind(info.api_version, info.resource, info.singular, info.kind, info.namespaced)
    except LookupError:
        pass
    for found in await session.client.discover():
        if (found.api_version, found.kind) == (api_version, kind):
            return Kind(found.api_version, found.resource, found.singular, found.kind, found.namespaced)
    raise LookupError(f'resource mapping not found: no matches for kind "{kind}" in version "{api_version}"')


def client_of(session: Session, kind: Kind) -> Any:
    return session.client.dynamic(kind.api_version, kind.resource, kind.namespaced)


def namespace_of(session: Session, kind: Kind) -> str | None:
    return session.namespace if kind.namespaced else None


async def parse_refs(session: Session, words: Sequence[str]) -> list[Ref]:
    """`deploy/web svc/web`, or `deploy web api`. Raises click.UsageError when there is no name."""
    refs: list[Ref] = []
    if words and "/" in words[0]:
        for word in words:
            resource, _, name = word.partition("/")
            if not name:
                raise click.UsageError(f"{word!r}: write KIND/NAME for each object")
            refs.append(Ref(await find_kind(session, resource), name))
        return refs
    if len(words) < 2:
        raise click.UsageError("write KIND NAME or KIND/NAME")
    for resource in words[0].split(","):
        kind = await find_kind(session, resource)
        refs += [Ref(kind, name) for name in words[1:]]
    return refs


async def one_ref(session: Session, words: Sequence[str]) -> Ref:
    refs = await parse_refs(session, words)
    if len(refs) != 1:
        raise click.UsageError("exactly one object is wanted")
    return refs[0]


def read_manifests(sources: Iterable[str], *, recursive: bool = False) -> list[tuple[str, Object]]:
    """(where it stands, object) of each document. Raises ValueError or OSError naming the file."""
    from tillerman.api.manifest import load_documents

    found: list[tuple[str, Object]] = []
    for source in sources:
        for name, text in read_texts(source, recursive):
            try:
                documents = load_documents(text)
            except ValueError as e:
                raise ValueError(f"error parsing {name}: {e}") from e
            found += [(name, document) for document in documents]
    if not found:
        raise ValueError("no objects passed: the manifests are empty")
    return found


def read_texts(source: str, recursive: bool) -> Iterable[tuple[str, str]]:
    if source == "-":
        yield "STDIN", sys.stdin.read()
        return
    path = Path(source)
    if not path.exists():
        raise ValueError(f'the path "{source}" does not exist')
    if path.is_dir():
        pattern = "**/*" if recursive else "*"
        for file in sorted(path.glob(pattern)):
            if file.suffix in MANIFEST_SUFFIXES and file.is_file():
                yield str(file), file.read_text()
    else:
        yield source, path.read_text()


async def check_manifest(session: Session, name: str, obj: Object, *, validate: bool) -> tuple[Kind, Object]:
    """The kind of a manifest's object, its fields checked, its namespace filled in.

    Raises ValueError naming the file, the object and the field; nothing has been sent then.
    """
    from tillerman.api.codec import DecodeError, from_dict

    for field in ("apiVersion", "kind"):
        if not obj.get(field):
            raise ValueError(f'error validating "{name}": {field} not set')
    try:
        kind = await kind_of(session, obj)
    except LookupError as e:
        raise ValueError(f'unable to recognize "{name}": {e.args[0]}') from e
    metadata = obj.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise ValueError(f'error validating "{name}": {kind.kind}: metadata is not an object')
    about = f'{kind.kind} "{metadata.get("name") or metadata.get("generateName", "")}"'
    if kind.namespaced and not metadata.get("namespace"):
        metadata["namespace"] = session.namespace
    elif kind.namespaced and session.explicit_namespace and metadata["namespace"] != session.namespace:
        raise ValueError(
            f'{about} in "{name}": the namespace from the provided object "{metadata["namespace"]}" does not match the '
            f"namespace \"{session.namespace}\". You must pass '--namespace={metadata['namespace']}' to perform this "
            "operation."
        )
    if validate and is_built_in(kind):
        try:
            from_dict(obj, strict=True)
        except DecodeError as e:
            raise ValueError(f'error validating "{name}": {about}: {e}') from e
    return kind, obj


def is_built_in(kind: Kind) -> bool:
    try:
        SCHEME.by_kind(kind.api_version, kind.kind)
    except LookupError:
        return False
    return True
