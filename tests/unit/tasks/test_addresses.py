from __future__ import annotations

import ipaddress

import pytest

from celery_platform import Dead
from tasks.addresses import _is_public, pinned


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "2130706433",
        "[::1]",
        "[fe80::1]",
        "[fd00::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::a00:1]",
        "[2002:7f00:1::]",
    ],
)
def test_an_address_inside_the_house_is_refused(host):
    with pytest.raises(Dead, match="not a public address"):
        pinned(f"http://{host}:8080/hook")


@pytest.mark.parametrize("host", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_a_public_address_is_not_refused(host):
    assert _is_public(ipaddress.ip_address(host))


def test_the_connection_goes_to_the_address_and_the_name_stays_known():
    target = pinned("http://localhost:8080/hook?a=1#part", private=True)

    assert target.url in {"http://127.0.0.1:8080/hook?a=1", "http://[::1]:8080/hook?a=1"}
    assert (target.host, target.authority) == ("localhost", "localhost:8080")


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "file:///etc/passwd", "https:///path", "http://user@1.1.1.1/", "http://1.1.1.1:99999/"],
)
def test_what_is_no_plain_web_address_is_refused(url):
    with pytest.raises(Dead):
        pinned(url)
