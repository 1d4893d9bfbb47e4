"""Where no webhook may ever go, in every spelling that we know of: the list of G14."""

from dataclasses import dataclass, field

PUBLIC = "9.9.9.9"
"""An address that is somebody's; tests never reach it."""


@dataclass(frozen=True)
class Target:
    """`answers`: what the name server says of the URL's host, a list of addresses each time; the last one again and again."""

    url: str
    answers: tuple[tuple[str, ...], ...] = field(default=(("127.0.0.1",),))

    def __str__(self) -> str:
        return ascii(self.url)


# A line for each would be five pages.
# fmt: off
_ADDRESSES_4 = (
    "127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1",  # noqa: S104 - nothing listens here
    "100.100.100.200", "100.127.255.254", "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.31.196.1",
    "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "192.175.48.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
)
_ADDRESSES_6 = (
    "::", "::1", "0:0:0:0:0:0:0:1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1",
    "::ffff:100.64.0.1", "::ffff:169.254.169.254", "::ffff:9.9.9.9", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::10.0.0.1", "100::1", "100:0:0:1::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::",
    "2002:a00:1::1", "2002:a9fe:a9fe::1", "2606:4700::5efe:a00:1", "2606:4700::200:5efe:7f00:1", "2620:4f:8000::1",
    "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%lo", "fe80::a9fe:a9fe",
    "febf::1", "fec0::1", "ff02::1", "ff05::1:3", "ff0e::1",
)
_NUMBERS = (
    "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1",
    "127.0.0.01", "127.000.000.001", "0", "0x0", "00", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376",
    "169.254.43518", "3232235521", "167772161", "0x0a.0x0.0x0.0x1", "127.0.0.1.", "0x7F.0.0.1.",
    "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
)
_NAMES = (
    "localhost", "localhost.", "LOCALHOST", "LocalHost.", "sub.localhost", "a.b.localhost", "localhost.localdomain",
    "ip6-localhost", "metadata", "metadata.google.internal", "METADATA.google.internal.", "instance-data",
    "kubernetes.default.svc.cluster.local", "host.docker.internal", "printer.local", "router.lan", "nas.home.arpa",
    "wiki.intranet", "db", "redis", "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
)
# fmt: on
_SPELLINGS = (
    "https://user:password@127.0.0.1/",
    "https://shop.example.com@127.0.0.1/",
    "https://shop.example.com:443@127.0.0.1/",
    "https://shop.example.com%40127.0.0.1/",
    "https://127.0.0.1#@shop.example.com/",
    "https://127.0.0.1?@shop.example.com/",
    "https://127.0.0.1\\@shop.example.com/",
    "https://shop.example.com\\@127.0.0.1/",
    "https://127.0.0.1\t.example.com/",
    "https://127.0.0.1\n/",
    "https://127.0.0.1%00.example.com/",
    "https://%31%32%37.0.0.1/",
    "https://127.0.0.1:443:8443/",
    "https://[::1]:8443/",
    "https://[::1/",
    "https://[fe80::1%25lo]/",
    "https://127.0.0.1/ https://shop.example.com/",
    "https:127.0.0.1/",
    "https:/127.0.0.1/",
    "https:///127.0.0.1/",
    "//127.0.0.1/",
    "http://127.0.0.1/",
    "http://shop.example.com/",
    "HTTP://127.0.0.1/",
    "ftp://127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "unix:///var/run/docker.sock",
    "https://shop.example.com:22/",
    "https://shop.example.com:25/",
    "https://shop.example.com:80/",
    "https://shop.example.com:0/",
    "https://shop.example.com:99999/",
)
_SAID_BY_THE_NAME_SERVER = tuple(
    ((address,),)
    for address in (
        *(
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",  # noqa: S104 - as above
            "10.1.2.3",
            "100.64.1.1",
            "169.254.169.254",
            "172.20.0.1",
            "192.168.1.1",
        ),
        *("198.18.0.1", "224.0.0.251", "255.255.255.255", "168.63.129.16"),
        *(
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fd00::1",
            "fe80::1%2",
        ),
    )
)
_REBINDING = (
    (("127.0.0.1", "::1"),),
    (("169.254.169.254", "10.0.0.1", "::1"),),
    ((PUBLIC,), ("127.0.0.1",)),
    ((PUBLIC,), ("::ffff:127.0.0.1",)),
    ((PUBLIC, "127.0.0.1"),),
    (("127.0.0.1",), (PUBLIC,), ("127.0.0.1",)),
)

TARGETS = (
    *(Target(f"https://{address}/hooks") for address in _ADDRESSES_4),
    *(Target(f"https://{address}:8443/hooks") for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254")),
    *(Target(f"https://[{address.replace('%', '%25')}]/hooks", ((address,),)) for address in _ADDRESSES_6),
    *(Target(f"https://{number}/hooks") for number in _NUMBERS),
    *(Target(f"https://{name}/hooks") for name in _NAMES),
    *(Target(url) for url in _SPELLINGS),
    *(Target(f"https://a{n}.example.com/hooks", answers) for n, answers in enumerate(_SAID_BY_THE_NAME_SERVER)),
    *(Target(f"https://b{n}.example.com/hooks", answers) for n, answers in enumerate(_REBINDING)),
)
