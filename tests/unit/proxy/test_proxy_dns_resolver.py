"""The resolver: wire format, cache, truncation, forwarding."""

import dns.flags
import dns.message
import dns.rcode
import pytest

from services.proxy.dns.records import Source, Zone
from services.proxy.dns.server import Resolver
from services.proxy.dns.upstream import UpstreamError
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery


class FakeUpstream:
    """Answers every name with one address; `broken` makes it fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False

    async def ask(self, query: bytes, *, tcp: bool) -> bytes:
        message = dns.message.from_wire(query)
        self.asked.append(message.question[0].name.to_text())
        if self.broken:
            raise UpstreamError("nobody there")
        response = dns.message.make_response(message)
        response.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "192.0.2.80"))
        return response.to_wire()


class World:
    def __init__(self) -> None:
        self.services: dict[str, core.Service] = {}
        self.slices: dict[str, list[discovery.EndpointSlice]] = {}
        self.upstream = FakeUpstream()
        slices = self.slices
        source = Source(
            self.services.get, self.services.values, lambda key: slices.get(key, []), lambda ip: [], lambda ip: []
        )
        self.resolver = Resolver(Zone("cluster.local", source), self.upstream)  # type: ignore[arg-type]

    def put(self, name: str, cluster_ip: str, **spec) -> None:
        made = core.Service(spec=core.ServiceSpec(clusterIP=cluster_ip, **spec))
        made.metadata.namespace, made.metadata.name = "default", name
        self.services[f"default/{name}"] = made
        self.resolver.forget(f"default/{name}")

    def put_members(self, name: str, count: int) -> None:
        made = discovery.EndpointSlice()
        for i in range(count):
            made.endpoints.add(addresses=[f"10.244.{i // 250}.{i % 250 + 1}"])
        self.slices[f"default/{name}"] = [made]
        self.resolver.forget(f"default/{name}")

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False, **query) -> dns.message.Message:
        wire = dns.message.make_query(name, kind, **query).to_wire()
        kept = None if tcp else self.resolver.answer_now(wire)
        answer = kept or await self.resolver.answer(wire, tcp=tcp)
        assert answer is not None and answer[:2] == wire[:2]
        return dns.message.from_wire(answer)


@pytest.fixture
def world() -> World:
    return World()


def addresses(message: dns.message.Message) -> list[str]:
    return [item.to_text() for rrset in message.answer for item in rrset if rrset.rdtype == 1]


async def test_kept_answers_change_with_their_service(world):
    world.put("web", "10.96.0.5")
    assert addresses(await world.ask("web.default.svc.cluster.local")) == ["10.96.0.5"]
    assert world.resolver.answer_now(dns.message.make_query("web.default.svc.cluster.local", "A").to_wire())
    world.put("web", "10.96.0.6")
    assert addresses(await world.ask("web.default.svc.cluster.local")) == ["10.96.0.6"]


async def test_a_name_that_did_not_exist_is_found_once_it_does(world):
    missing = await world.ask("web.default.svc.cluster.local")
    assert missing.rcode() == dns.rcode.NXDOMAIN
    assert "SOA" in missing.authority[0].to_text()
    world.put("web", "10.96.0.5")
    assert addresses(await world.ask("web.default.svc.cluster.local")) == ["10.96.0.5"]


async def test_headless_answers_rotate(world):
    world.put("db", "None")
    world.put_members("db", 3)
    firsts = {addresses(await world.ask("db.default.svc.cluster.local"))[0] for _ in range(6)}
    assert len(firsts) == 3


async def test_answers_that_do_not_fit_are_truncated_and_whole_over_tcp(world):
    world.put("db", "None")
    world.put_members("db", 100)
    short = await world.ask("db.default.svc.cluster.local")
    assert short.flags & dns.flags.TC
    assert len(addresses(await world.ask("db.default.svc.cluster.local", tcp=True))) == 100


async def test_edns_allows_more(world):
    world.put("db", "None")
    world.put_members("db", 60)
    assert (await world.ask("db.default.svc.cluster.local")).flags & dns.flags.TC
    answer = await world.ask("db.default.svc.cluster.local", use_edns=0, payload=4096)
    assert len(addresses(answer)) == 60 and answer.edns == 0


async def test_the_askers_spelling_is_kept(world):
    world.put("web", "10.96.0.5")
    answer = await world.ask("WeB.default.SVC.cluster.local")
    assert answer.answer[0].name.to_text() == "WeB.default.SVC.cluster.local."


async def test_other_names_go_upstream(world):
    assert addresses(await world.ask("example.com")) == ["192.0.2.80"]
    assert world.upstream.asked == ["example.com."]


async def test_external_names_are_followed(world):
    world.put("out", "", type="ExternalName", externalName="example.com")
    answer = await world.ask("out.default.svc.cluster.local")
    assert addresses(answer) == ["192.0.2.80"]
    assert "CNAME example.com." in answer.answer[0].to_text()


async def test_servfail_when_upstream_is_silent(world):
    world.upstream.broken = True
    assert (await world.ask("example.com")).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("junk", [b"", b"abc", b"\0" * 11, b"\0\1\x80\0" + b"\0" * 8])
async def test_junk_gets_no_answer(world, junk):
    assert await world.resolver.answer(junk, tcp=False) is None


async def test_a_broken_question_is_a_format_error(world):
    answer = await world.resolver.answer(b"\x12\x34\x01\x00\x00\x01" + b"\0" * 6 + b"\x3fabc", tcp=False)
    assert answer is not None and answer[:2] == b"\x12\x34" and answer[3] & 0xF == 1


async def test_lookup_in_presentation_form(world):
    world.put("web", "10.96.0.5")
    found = await world.resolver.lookup("web.default.svc.cluster.local", "A")
    assert (found.code, [r.data for r in found.records]) == ("NOERROR", ["10.96.0.5"])
    with pytest.raises(ValueError, match="NOTYPE"):
        await world.resolver.lookup("web", "NOTYPE")
