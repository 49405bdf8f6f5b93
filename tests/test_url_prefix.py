"""What is at an address or below it, whoever reads the address."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from dask_claim.claim.addresses import UrlPrefix

SERVICE = "https://hub.example.org/services/dask-gateway"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://GW.example.org/x?y", "http://gw.example.org:80/x"),
        ("https://gw.example.org", "https://gw.example.org:443"),
        ("HTTPS://user:secret@gw:8443/", "https://gw:8443"),
        ("http://[::1]/", "http://[::1]:80"),
        ("http://gw/a//b/./%63/", "http://gw:80/a/b/c"),
        ("http://gw/a/x/%2e%2E/b", "http://gw:80/a/b"),
    ],
)
def test_one_spelling(url: str, expected: str) -> None:
    assert str(UrlPrefix.of(url)) == expected


@pytest.mark.parametrize(
    "path",
    ["a%2fb", "a%5c..", "%252e%252e", "a//../b", "..;/b", "a\\b", "%c0%ae%c0%ae/b", "%00", "a%zz"],
)
def test_what_servers_read_differently(path: str) -> None:
    url = f"https://hub.example.org/{path}"
    with pytest.raises(ValueError, match=r"has a path that|has characters"):
        UrlPrefix.of(url)
    assert not UrlPrefix.of("https://hub.example.org").covers(url)


@pytest.mark.parametrize(
    "url",
    ["", f"{SERVICE}2", f"{SERVICE}/../../user/x/proxy/8000", f"{SERVICE}/%2e%2e/%2e%2e/user/x",
     SERVICE.replace("https", "http"), SERVICE.replace("https", "gateway"),
     SERVICE.replace(".org", ".org:8443"), SERVICE.replace(".org", ".org@evil.org"),
     SERVICE.replace("hub", "evil.org\\@hub")],
)  # fmt: skip
def test_covered(url: str) -> None:
    prefix = UrlPrefix.of(SERVICE)
    assert not prefix.covers(url)
    for own in ("", "/api/v1/clusters/", "/x/../../dask%2dgateway/"):
        assert prefix.covers(f"{SERVICE.replace('https', 'HTTPS')}{own}")


def escaped(letter: str, escape: bool) -> str:
    return f"%{ord(letter):02x}" if escape else letter


segments = st.lists(st.sampled_from(["a", "b", "services", "user"]), max_size=4)


@st.composite
def spelled(draw: st.DrawFn, path: list[str]) -> str:
    """A path as somebody may write it who means this one."""
    found = ""
    for segment in path:
        found += draw(st.sampled_from(["/", "/./", "/x/../", "/%2e/", "/y/%2E./"]))
        found += "".join(escaped(letter, draw(st.booleans())) for letter in segment)
    return found + draw(st.sampled_from(["", "/", "/.", "/z/.."]))


@given(data=st.data(), own=segments, other=segments, same=st.booleans())
def test_spellings_do_not_matter(
    data: st.DataObject, own: list[str], other: list[str], same: bool
) -> None:
    host = data.draw(st.sampled_from(["HTTPS://Hub", "https://hub:443", "https://me@HUB"]))
    prefix = UrlPrefix.of(f"https://hub{data.draw(spelled(own))}")
    below = [*own, *other] if same else other
    covered = prefix.covers(f"{host}{data.draw(spelled(below))}")
    assert covered is (below[: len(own)] == own)


def readings(url: str) -> Iterator[str]:
    """The path as servers and clients of different kinds read it."""
    path = urlsplit(url).path
    without = "/".join(part.partition(";")[0] for part in path.split("/"))
    for one in (path, path.replace("\\", "/"), without):
        twice: list[Callable[[str], str]] = [str, unquote, lambda text: unquote(unquote(text))]
        for decoded in (decode(one) for decode in twice):
            yield posixpath.normpath(decoded)
            yield unquote(urlsplit(urljoin("https://hub/", decoded)).path)
    yield URL(url).path


parts = st.sampled_from(
    ["..", ".", "", "a", "b", "%2e%2e", "%2E.", "%2f", "a%2fb", "..%2f", "%252e%252e", "..;", "\\",
     "..\\", "a;x", "%5c..", "c"]
)  # fmt: skip


@given(st.lists(parts, max_size=7), st.sampled_from([[], ["a"], ["a", "b"]]))
def test_no_reader_sees_another_address(path: list[str], own: list[str]) -> None:
    """What is covered is so for whoever reads it: token and path arrive at one and the same."""
    url = "/".join(["https://hub", *own, *path])
    if UrlPrefix.of("/".join(["https://hub", *own])).covers(url):
        for reading in readings(url):
            assert [part for part in reading.split("/") if part][: len(own)] == own, reading
