"""The DNS server over real UDP and TCP, and forwarding to a real upstream server."""

import asyncio

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

from services.proxy.dns.records import Source, Zone
from services.proxy.dns.server import DnsServer, Resolver
from services.proxy.dns.upstream import Upstream
from tillerman.pb.k8s import core_v1_pb2 as core

WEB = core.Service(spec=core.ServiceSpec(clusterIP="10.96.0.5"))
WEB.metadata.namespace, WEB.metadata.name = "default", "web"
SERVICES = {"default/web": WEB}
SOURCE = Source(SERVICES.get, SERVICES.values, lambda key: [], lambda ip: [], lambda ip: [])


class Elsewhere(asyncio.DatagramProtocol):
    """An upstream server that knows one address for every name and counts questions."""

    def __init__(self) -> None:
        self.asked = 0

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data, address) -> None:
        self.asked += 1
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.80"))
        self._transport.sendto(response.to_wire(), address)


@pytest.fixture
async def upstream():
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        Elsewhere, local_addr=("127.98.2.1", 0)
    )
    server.port = transport.get_extra_info("sockname")[1]
    yield server
    transport.close()


@pytest.fixture
async def server(upstream, tmp_path):
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 127.98.2.1\n")
    zone = Zone("cluster.local", SOURCE)
    made = DnsServer(Resolver(zone, Upstream(resolv_conf=resolv_conf, port=upstream.port)))
    await made.start("127.98.2.2", 0)
    yield made
    await made.stop()


@pytest.mark.parametrize("transport", [dns.asyncquery.udp, dns.asyncquery.tcp])
async def test_cluster_names(server, transport):
    query = dns.message.make_query("web.default.svc.cluster.local", "A")
    answer = await transport(query, server.address, port=server.port, timeout=3)
    assert answer.answer[0][0].address == "10.96.0.5"


async def test_other_names_are_forwarded_and_kept(server, upstream):
    query = dns.message.make_query("example.com", "A")
    for _ in range(3):
        answer = await dns.asyncquery.udp(query, server.address, port=server.port, timeout=3)
        assert answer.answer[0][0].address == "192.0.2.80"
    assert upstream.asked == 1


async def test_many_questions_at_once(server, upstream):
    async def one(i: int) -> str:
        name = "web.default.svc.cluster.local" if i % 2 else f"host{i % 20}.example.com"
        answer = await dns.asyncquery.udp(
            dns.message.make_query(name, "A"), server.address, port=server.port, timeout=5
        )
        return answer.answer[0][0].address

    answers = await asyncio.gather(*[one(i) for i in range(200)])
    assert set(answers) == {"10.96.0.5", "192.0.2.80"}
    assert upstream.asked <= 20


async def test_without_resolvers_other_names_fail(tmp_path):
    zone = Zone("cluster.local", SOURCE)
    made = DnsServer(Resolver(zone, Upstream(resolv_conf=tmp_path / "none")))
    await made.start("127.98.2.3", 0)
    query = dns.message.make_query("example.com", "A")
    answer = await dns.asyncquery.udp(query, made.address, port=made.port, timeout=3)
    assert answer.rcode() == dns.rcode.SERVFAIL
    await made.stop()
