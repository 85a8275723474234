"""Links of pages that come through a proxy."""

import pytest

from services.apiserver.fronts.http.proxy import named
from services.apiserver.fronts.http.proxy_links import Links
from services.apiserver.registry.registry import Target
from tillerman.api.status import StatusError

PREFIX = "/api/v1/namespaces/default/services/web/proxy"
LINKS = Links(PREFIX, "10.1.2.3:8080")


@pytest.mark.parametrize(
    "url, rewritten",
    [
        ("/", f"{PREFIX}/"),
        ("/a/b/?q=1#x", f"{PREFIX}/a/b/?q=1#x"),
        ("http://10.1.2.3:8080/a", f"{PREFIX}/a"),
        ("http://10.1.2.3:8080", f"{PREFIX}/"),
        ("//10.1.2.3:8080/a", f"{PREFIX}/a"),
        ("http://example.com/a", "http://example.com/a"),
        ("a/b", "a/b"),
        ("?q=1", "?q=1"),
        ("#x", "#x"),
        ("mailto:a@b.c", "mailto:a@b.c"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        ("http://[bad", "http://[bad"),
    ],
)
def test_links_that_stay_with_the_backend_lead_through_the_proxy(url: str, rewritten: str) -> None:
    assert LINKS.rewritten(url) == rewritten


@pytest.mark.parametrize(
    "html, rewritten",
    [
        ('<a href="/x">x</a>', f'<a href="{PREFIX}/x">x</a>'),
        ("<A class=b HREF='/x?a=1&amp;b=2'>", f"<A class=b HREF='{PREFIX}/x?a=1&amp;b=2'>"),
        ("<img alt=/x src=/x.png>", f"<img alt=/x src={PREFIX}/x.png>"),
        ('<a href="y">', '<a href="y">'),
        ('<p href="/x">', '<p href="/x">'),
        ("a < b /x > c", "a < b /x > c"),
        ('<script src="/é.js"></script>', f'<script src="{PREFIX}/é.js"></script>'),
    ],
)
def test_pages(html: str, rewritten: str) -> None:
    assert LINKS.page(html.encode(), "utf-8").decode() == rewritten


def test_a_page_in_another_encoding_than_it_says_stays_as_it_is() -> None:
    assert LINKS.page(b'<a href="/\xff">', "utf-8") == b'<a href="/\xff">'


@pytest.mark.parametrize(
    "name, parts",
    [
        ("web", ("", "web", "")),
        ("web:80", ("", "web", "80")),
        ("https:web:tls", ("https", "web", "tls")),
        (":web:80", ("", "web", "80")),
        ("https:web:", ("https", "web", "")),
    ],
)
def test_names_may_have_a_scheme_and_a_port(name: str, parts: tuple[str, str, str]) -> None:
    assert named(Target("v1", "services", "default", name, "proxy")) == parts


@pytest.mark.parametrize("name", ["ftp:web:80", "a:b:c:d", ":80", "http::80"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(StatusError, match="invalid service request"):
        named(Target("v1", "services", "default", name, "proxy"))
