"""Links of what comes through a proxy: those that stay with the backend are to lead through the proxy again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape, unescape
from urllib.parse import urlsplit, urlunsplit

# Elements and their attributes that hold a URL.
ATTRIBUTES = {
    "a": "href",
    "applet": "codebase",
    "area": "href",
    "audio": "src",
    "base": "href",
    "blockquote": "cite",
    "body": "background",
    "button": "formaction",
    "del": "cite",
    "embed": "src",
    "form": "action",
    "frame": "src",
    "head": "profile",
    "html": "manifest",
    "iframe": "src",
    "img": "src",
    "input": "src",
    "ins": "cite",
    "link": "href",
    "object": "data",
    "q": "cite",
    "script": "src",
    "source": "src",
    "track": "src",
    "video": "src",
}
_TAG = re.compile(r"<([a-zA-Z]+)(\s[^<>]*)>")
_ATTRIBUTE = re.compile(r"""(\s)([a-zA-Z-]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)""")


@dataclass(frozen=True, slots=True)
class Links:
    """``prefix``: the path of the proxy, without a slash at its end. ``authority``: the backend's host and port."""

    prefix: str
    authority: str

    def rewritten(self, url: str) -> str:
        """Other hosts' URLs and relative ones stay as they are."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return url
        if not parts.path.startswith("/") and not (parts.netloc and not parts.path):
            return url
        if (parts.netloc and parts.netloc != self.authority) or parts.path.startswith(self.prefix):
            return url
        return urlunsplit(("", "", self.prefix + (parts.path or "/"), parts.query, parts.fragment))

    def page(self, body: bytes, encoding: str) -> bytes:
        """HTML with its links rewritten; as it is if it cannot be read."""
        try:
            text = body.decode(encoding)
            return _TAG.sub(self._tag, text).encode(encoding)
        except (UnicodeError, LookupError):
            return body

    def _tag(self, found: re.Match[str]) -> str:
        wanted = ATTRIBUTES.get(found[1].lower())
        if wanted is None:
            return found[0]

        def attribute(part: re.Match[str]) -> str:
            value = part[4]
            quote = value[0] if value[0] in "\"'" else ""
            plain = unescape(value[1:-1] if quote else value)
            changed = self.rewritten(plain)
            if part[2].lower() != wanted or changed == plain:
                return part[0]
            return f"{part[1]}{part[2]}{part[3]}{quote}{escape(changed, quote=True)}{quote}"

        return f"<{found[1]}{_ATTRIBUTE.sub(attribute, found[2])}>"
