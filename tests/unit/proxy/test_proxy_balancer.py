"""Whose turn it is, in the userspace proxy."""

from collections import Counter

from services.proxy.userspace.balancer import Balancer

A, B, C = ("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.3", 80)


class Time:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def first(balancer: Balancer, client: str = "c") -> tuple[str, int]:
    target = next(balancer.candidates(client))
    balancer.connected(client, target)
    return target


def test_backends_take_turns():
    balancer = Balancer(now=Time())
    balancer.set((A, B, C), 0)
    assert Counter(first(balancer) for _ in range(300)) == {A: 100, B: 100, C: 100}


def test_every_backend_is_a_candidate_once():
    balancer = Balancer(now=Time())
    balancer.set((A, B, C), 0)
    assert sorted(balancer.candidates("c")) == [A, B, C]
    assert list(Balancer(now=Time()).candidates("c")) == []


def test_affinity_lasts_for_its_timeout_after_the_last_connection():
    time = Time()
    balancer = Balancer(now=time)
    balancer.set((A, B), 10)
    target = first(balancer)
    time.at = 9
    assert first(balancer) == target
    time.at = 18
    assert first(balancer) == target
    time.at = 28
    assert first(balancer) != target


def test_affinity_ends_with_the_backend():
    balancer = Balancer(now=Time())
    balancer.set((A, B), 10)
    target = first(balancer)
    other = B if target == A else A
    balancer.set((other,), 10)
    assert first(balancer) == other


def test_expired_clients_are_forgotten():
    time = Time()
    balancer = Balancer(now=time)
    balancer.set((A,), 10)
    first(balancer)
    time.at = 11
    balancer.expire()
    assert balancer._clients == {}
