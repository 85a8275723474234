"""Bodies in and out: what the caller accepts, and how objects, lists and refusals become bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from google.protobuf.message import Message

from services.apiserver.cache.entry import Entry
from services.apiserver.crd.definition import CustomInfo
from services.apiserver.crd.objects import CustomObject
from services.apiserver.crd.resource import CustomResource
from services.apiserver.fronts.http import pieces
from services.apiserver.fronts.objects import JSON, PROTOBUF, unknown_of
from services.apiserver.registry.context import Context
from services.apiserver.registry.writing import Written
from tillerman.api import codec, envelope
from tillerman.api.envelope import length_delimited
from tillerman.api.json_syntax import no_type_meta, syntax_error
from tillerman.api.manifest import parse_document
from tillerman.api.scheme import PACKAGES, SCHEME, ResourceInfo
from tillerman.api.status import StatusError, bad_request, make, no_such_path, unsupported_media_type
from tillerman.pb.k8s import meta_v1_pb2

YAML = "application/yaml"
# How much of a body that says nothing is quoted.
_SHOWN = 30
_OWN_GROUPS = {"metrics.k8s.io", *(api_version.rpartition("/")[0] for api_version in PACKAGES)}
_SCHEME_NAME = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
META_GROUP = "meta.k8s.io"
META = f"{META_GROUP}/v1"
SHAPE_VERSIONS = frozenset({"v1", "v1beta1"})


@dataclass(frozen=True, slots=True)
class Accept:
    """One clause of an Accept header that can be served. ``shape``: "", Table, PartialObjectMetadata(List)."""

    media_type: str = JSON
    shape: str = ""
    version: str = ""
    group: str = ""

    @property
    def api_version(self) -> str:
        """The version of ``shape``."""
        return f"meta.k8s.io/{self.version}"


@dataclass(slots=True)
class Answer:
    """A response before it is sent. ``rest``: what comes after the body, made while it is sent."""

    body: bytes
    code: int = 200
    media_type: str = JSON
    headers: list[tuple[str, str]] = field(default_factory=list)
    rest: Iterator[bytes] | None = None


def clauses(header: str) -> Iterable[Accept]:
    """The clauses of an Accept header whose media type exists here, the most wanted first."""
    for clause in (header or JSON).split(","):
        media_type, *parameters = (part.strip() for part in clause.split(";"))
        if media_type in ("*/*", "application/*", ""):
            media_type = JSON
        if media_type in (JSON, PROTOBUF, YAML):
            options = dict(p.partition("=")[::2] for p in parameters)
            yield Accept(media_type, options.get("as", ""), options.get("v", ""), options.get("g", ""))


def accepted(header: str, *, shapes: Iterable[str] = (), protobuf: bool = True, yaml: bool = True) -> Accept:
    """The first clause that is served: one of ``shapes``, or the object itself. Raises NotAcceptable."""
    types = [JSON] + ([YAML] if yaml else []) + ([PROTOBUF] if protobuf else [])
    for clause in clauses(header):
        if clause.media_type not in types:
            continue
        if not clause.shape:
            return clause
        known = clause.group == META_GROUP and clause.version in SHAPE_VERSIONS
        if known and clause.shape in shapes and clause.media_type != PROTOBUF:
            return clause
    raise make(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(types)}", details=False)


# -- in ----------------------------------------------------------------------------------------------------------------


def media_type_of(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower() or JSON


def as_json(body: bytes, content_type: str, faults: list[str] | None = None) -> bytes:
    """A JSON or YAML body as JSON; keys of YAML that stand twice are told in ``faults``.

    Raises DecodeError, UnsupportedMediaType.
    """
    if content_type == JSON:
        return body
    if content_type != YAML:
        raise unsupported_media_type([JSON, YAML, PROTOBUF])
    if body.lstrip()[:1] == b"{":
        try:
            orjson.loads(body)
            return body
        except ValueError:
            pass
    document, repeated = parse_document(body)
    if repeated and faults is not None:
        faults.append(repeated)
    try:
        return orjson.dumps(document)
    except (TypeError, RecursionError) as error:
        raise codec.DecodeError([str(error)]) from error


def decode(body: bytes, content_type: str, expected: tuple[str, str], context: Context) -> Any:
    """The message of a request's body. Raises BadRequest with Kubernetes' words; fills ``context.warnings``."""
    if content_type == PROTOBUF:
        return _from_protobuf(body, expected)
    faults: list[str] = []
    try:
        raw = as_json(body, content_type, faults)
    except codec.DecodeError as error:
        raise unrecognized(expected, str(error), body) from error
    head = _loads(raw, expected, body)
    api_version, kind = head.get("apiVersion") or "", head.get("kind") or ""
    check_kind(api_version, kind, expected)
    told = faults if context.field_validation in ("Strict", "Warn") else None
    try:
        message = codec.from_json(raw if head else b"{}", SCHEME.message_type(*expected), unknown=told)
        if faults and context.field_validation == "Strict":
            raise codec.DecodeError(faults, strict=True)
    except codec.DecodeError as error:
        raise cannot_handle(kind, api_version or expected[0], expected, str(error), body) from error
    if told:
        context.warnings.extend(told)
    return message


def decode_custom(body: bytes, content_type: str, resource: CustomResource, context: Context) -> CustomObject:
    """The custom resource of a request's body. Raises BadRequest, UnsupportedMediaType."""
    if content_type == PROTOBUF:
        raise unsupported_media_type([JSON, YAML])
    expected = (resource.info.api_version, resource.info.kind)
    try:
        raw = as_json(body, content_type)
    except codec.DecodeError as error:
        raise unrecognized(expected, str(error), body) from error
    head = _loads(raw, expected, body)
    api_version, kind = head.get("apiVersion") or "", head.get("kind") or ""
    if api_version and kind and api_version != expected[0]:
        raise wrong_version(api_version, expected[0])
    try:
        return resource.decode(raw, context)
    except codec.DecodeError as error:
        raise cannot_handle(kind, api_version or expected[0], expected, str(error), body) from error


# The same messages under a version that is served no more; drains from before policy/v1 send it.
ALSO_TAKEN = {("policy/v1beta1", "Eviction"): ("policy/v1", "Eviction")}


def check_kind(api_version: str, kind: str, expected: tuple[str, str]) -> None:
    """What a body says it is; whatever it leaves out is as expected. Raises BadRequest."""
    found = (api_version or expected[0], kind or expected[1])
    if ALSO_TAKEN.get(found, found) == expected:
        return
    same_group = _group(found[0]) == _group(expected[0])
    if found[1] == expected[1] and same_group:
        raise wrong_version(found[0], expected[0])
    if not SCHEME.has_kind(*found):
        reason = f'no kind "{found[1]}" is registered for version "{found[0]}" in scheme "{_SCHEME_NAME}"'
    else:
        version = found[0].rpartition("/")[2]
        internal = f"{_package(expected[0])}.{expected[1]}"
        reason = f"converting ({version}.{found[1]}) to ({internal}): unknown conversion"
    raise cannot_handle(found[1], found[0], expected, reason)


def _package(api_version: str) -> str:
    """The Go package of a group's internal types."""
    return _group(api_version).partition(".")[0] or "core"


def wrong_version(found: str, expected: str) -> StatusError:
    return bad_request(f"the API version in the data ({found}) does not match the expected API version ({expected})")


def _from_protobuf(body: bytes, expected: tuple[str, str]) -> Message:
    if not body.startswith(envelope.MAGIC):
        magic = " ".join(map(str, envelope.MAGIC))
        reason = f"provided data does not appear to be a protobuf message, expected prefix [{magic}]"
        raise unrecognized(expected, reason, body)
    try:
        unknown = unknown_of(body[len(envelope.MAGIC) :])
        api_version, kind = unknown.typeMeta.apiVersion, unknown.typeMeta.kind
        check_kind(api_version, kind, expected)
        return codec.from_protobuf(unknown.raw, SCHEME.message_type(*expected))
    except codec.DecodeError as error:
        raise bad_request(f"the body is not a {expected[1]} in protobuf: {error}") from error


def _loads(raw: bytes, expected: tuple[str, str], body: bytes) -> dict[str, Any]:
    """The object of a body, which `raw` is the JSON of; null is one that says nothing."""
    try:
        head = orjson.loads(raw)
    except ValueError as error:
        reason = f"couldn't get version/kind; json parse error: {syntax_error(raw) or error}"
        raise unrecognized(expected, reason, body) from error
    if head is None:
        return {}
    if not isinstance(head, dict):
        raise unrecognized(expected, no_type_meta(codec.json_type(head)), body)
    for name in ("apiVersion", "kind"):
        if not isinstance(head.get(name, ""), str | None):
            reason = f"json: cannot unmarshal {codec.json_type(head[name])} into Go struct field .{name} of type string"
            raise unrecognized(expected, f"couldn't get version/kind; json parse error: {reason}", body)
    return head


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def unrecognized(expected: tuple[str, str], reason: str, body: bytes) -> StatusError:
    """A body that does not even say what it is; the message ends in what it begins with."""
    return bad_request(
        f"the object provided is unrecognized (must be of type {expected[1]}): {reason} ({_summary(body)})"
    )


def _summary(body: bytes) -> str:
    if not body:
        return "<empty>"
    head, more = body[:_SHOWN], " ..." if len(body) > _SHOWN else ""
    return (head.decode(errors="replace") if body[:1] == b"{" else head.hex()) + more


def cannot_handle(
    kind: str, api_version: str, expected: tuple[str, str], reason: str, body: bytes = b""
) -> StatusError:
    if not kind:
        return unrecognized(expected, reason, body)
    version = api_version.rpartition("/")[2]
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {expected[1]}: {reason}')


def delete_options(body: bytes, content_type: str) -> meta_v1_pb2.DeleteOptions:
    """DELETE's body. Raises BadRequest."""
    if not body.strip():
        return meta_v1_pb2.DeleteOptions()
    try:
        if content_type == PROTOBUF or body.startswith(envelope.MAGIC):
            if not body.startswith(envelope.MAGIC):
                raise codec.DecodeError(["it does not begin as the envelope of protobuf does"])
            unknown = unknown_of(body[len(envelope.MAGIC) :])
            kind = unknown.typeMeta.kind
            options: Message = codec.from_protobuf(unknown.raw, meta_v1_pb2.DeleteOptions)
        else:
            raw = as_json(body, content_type)
            head = _loads(raw, (META, "DeleteOptions"), body)
            kind = head.get("kind") or ""
            options = codec.from_dict(head, meta_v1_pb2.DeleteOptions)
    except codec.DecodeError as error:
        raise bad_request(f"the body is not DeleteOptions: {error}") from error
    if kind not in ("", "DeleteOptions"):
        raise bad_request(f'no kind "{kind}" is registered for the options of a delete: DeleteOptions is expected')
    assert isinstance(options, meta_v1_pb2.DeleteOptions)
    return options


# -- out ---------------------------------------------------------------------------------------------------------------


def refusal(error: StatusError) -> Answer:
    answer = Answer(codec.to_json(error.status), error.code or 500)
    if error.retry_after_seconds:
        answer.headers.append(("Retry-After", str(error.retry_after_seconds)))
    return answer


def refusal_of(error: StatusError, api_version: str) -> Answer:
    """Where a path leads nowhere in a group that is not the server's own, Kubernetes answers with the plain words of
    its web server: whoever serves such groups is not there to make a Status.
    """
    if error.status == no_such_path().status and "/" in api_version and _group(api_version) not in _OWN_GROUPS:
        return Answer(b"404 page not found\n", 404, "text/plain; charset=utf-8")
    return refusal(error)


def json_of(answer: Entry | Written | Message) -> bytes:
    if isinstance(answer, Written):
        answer = answer.entry
    return answer.json if isinstance(answer, Entry) else codec.to_json(answer)


def one(answer: Entry | Written | Message, accept: Accept, code: int = 200) -> Answer:
    """An object in the form that was asked for."""
    if isinstance(answer, Written):
        answer = answer.entry
    if accept.shape == "PartialObjectMetadata" and isinstance(answer, Entry):
        return _text(orjson.dumps(partial(orjson.loads(answer.json), accept.api_version)), accept, code)
    if accept.media_type == PROTOBUF and (raw := protobuf_of(answer)) is not None:
        return Answer(raw, code, PROTOBUF)
    return _text(json_of(answer), accept, code)


def protobuf_of(answer: Entry | Message) -> bytes | None:
    """The envelope with the object's bytes; None for a custom resource, which has no protobuf form."""
    if isinstance(answer, Message):
        return envelope.wrap(*SCHEME.kind_of(answer), answer.SerializeToString())
    message = answer.message()
    return envelope.wrap(*SCHEME.kind_of(message), answer.value) if isinstance(message, Message) else None


def _text(raw: bytes, accept: Accept, code: int = 200) -> Answer:
    if accept.media_type != YAML:
        return Answer(raw, code)
    from tillerman.api.manifest import to_yaml

    return Answer(to_yaml(orjson.loads(raw)).encode(), code, YAML)


def partial(content: dict[str, Any], api_version: str = META) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": "PartialObjectMetadata", "metadata": content.get("metadata", {})}


def many(
    info: ResourceInfo,
    entries: list[Entry],
    accept: Accept,
    *,
    revision: int = 0,
    continue_token: str = "",
    remaining: int | None = None,
) -> Answer:
    """A list of a resource's objects in the form that was asked for."""
    meta = list_meta(revision, continue_token, remaining)
    if accept.shape == "PartialObjectMetadataList":
        shape = {"kind": accept.shape, "apiVersion": accept.api_version, "metadata": meta}

        def encode(entry: Entry) -> bytes:
            made: bytes = orjson.dumps(partial(orjson.loads(entry.json), accept.api_version))
            return made

        return written_as(accept, pieced(entries, pieces.json_list(shape, "items", entries, encode)))
    if accept.media_type == PROTOBUF and info.list_message is not None:
        head = meta_v1_pb2.ListMeta(resourceVersion=str(revision) if revision else "")
        setattr(head, "continue", continue_token)
        if remaining is not None:
            head.remainingItemCount = remaining
        first = length_delimited(1, head.SerializeToString())
        prefix = envelope.prefix(info.api_version, info.list_kind)
        return pieced(entries, pieces.protobuf_list(prefix, first, entries, envelope.TAIL), PROTOBUF)
    if isinstance(info, CustomInfo):
        # Kubernetes keeps these lists as plain JSON, where an empty token shows.
        meta.setdefault("continue", "")
    shape = {"kind": info.list_kind, "apiVersion": info.api_version, "metadata": meta}
    return written_as(accept, pieced(entries, pieces.json_list(shape, "items", entries, _json)))


def written_as(accept: Accept, answer: Answer) -> Answer:
    """An answer in JSON as it is, or in YAML if that was asked for."""
    if accept.media_type != YAML:
        return answer
    return _text(answer.body + b"".join(answer.rest or ()), accept, answer.code)


def pieced(entries: list[Entry], made: Iterator[bytes], media_type: str = JSON) -> Answer:
    """A list's answer, whole or, where there are many entries, piece by piece."""
    body, rest = pieces.body(entries, made)
    return Answer(body, media_type=media_type, rest=rest)


def _json(entry: Entry) -> bytes:
    return entry.json


def list_meta(revision: int = 0, continue_token: str = "", remaining: int | None = None) -> dict[str, Any]:
    meta: dict[str, Any] = {"resourceVersion": str(revision) if revision else ""}
    if continue_token:
        meta["continue"] = continue_token
    if remaining is not None:
        meta["remainingItemCount"] = remaining
    return meta
