"""Settings: options as libcurl takes them. First floor.

The only Python that knows libcurl's option names. Proxy and noproxy are always
set, also to nothing: libcurl would read the environment by itself.
"""

from __future__ import annotations

import os

from . import _job, _reactor
from .errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Options

    Setting = tuple[int, int, int | str | None]

__all__ = ["ca_file", "proxied", "settings_of"]

DNS_AGE = 10  # seconds; libcurl's 60 would keep us from a server that has moved
HTTP_VERSIONS = {"1.1": 2, "2": 4, "3": 30}  # CURL_HTTP_VERSION_1_1, _2TLS, _3

CA_VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",  # macOS, Alpine
)

# Plain data that cannot break what the engine relies on.
ALLOWED = frozenset(
    "INTERFACE LOCALPORT LOCALPORTRANGE IPRESOLVE RESOLVE CONNECT_TO TCP_NODELAY TCP_FASTOPEN TCP_KEEPALIVE "
    "TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT SSLVERSION SSL_CIPHER_LIST TLS13_CIPHERS SSL_EC_CURVES DNS_CACHE_TIMEOUT "
    "DNS_SERVERS DNS_INTERFACE DNS_LOCAL_IP4 DNS_LOCAL_IP6 DNS_SHUFFLE_ADDRESSES UNIX_SOCKET_PATH "
    "ABSTRACT_UNIX_SOCKET HAPPY_EYEBALLS_TIMEOUT_MS MAXAGE_CONN MAXLIFETIME_CONN ADDRESS_SCOPE HAPROXYPROTOCOL "
    "PINNEDPUBLICKEY CRLFILE KEYPASSWD PROXY_CAINFO PROXY_SSLVERSION PROXYAUTH PROXYHEADER HTTPPROXYTUNNEL".split()
)
OURS = {
    "URL": "the url argument",
    "RANGE": "start= and stop=",
    "RESUME_FROM": "start=",
    "RESUME_FROM_LARGE": "start=",
    "HTTPHEADER": "headers=",
    "USERAGENT": "headers=",
    "REFERER": "headers=",
    "USERPWD": "auth=",
    "USERNAME": "auth=",
    "PASSWORD": "auth=",
    "XOAUTH2_BEARER": "headers=",
    "COOKIE": "cookies=",
    "PROXY": "proxy=",
    "NOPROXY": "noproxy=",
    "CAINFO": "ca_file=",
    "SSLCERT": "cert=",
    "SSLKEY": "key=",
    "HTTP_VERSION": "http_version=",
    "CONNECTTIMEOUT": "connect_timeout=",
    "CONNECTTIMEOUT_MS": "connect_timeout=",
    "LOW_SPEED_TIME": "stall_timeout=",
}


def ca_file(given: str | None) -> str | None:
    """The file of trusted authorities: the one given, the one named by the usual
    variables, the system's, Python's, certifi's; None if there is none at all. One that
    was named is taken though it isn't there: another in its place would trust whom nobody
    chose. A folder of them is not: libcurl would read it anew for each connection."""
    for path in (given, *(os.environ.get(name) for name in CA_VARIABLES)):
        if path and not os.path.isdir(path):
            return path
    for path in CA_FILES:
        if os.path.isfile(path):
            return path
    import ssl

    path = ssl.get_default_verify_paths().cafile
    if path:
        return path
    try:
        import certifi  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return str(certifi.where())


def proxied(options: Options) -> bool:
    """Whether any address is reached through a proxy."""
    proxy = options.proxy
    return bool(proxy if isinstance(proxy, str) or proxy is None else any(proxy.values()))


def settings_of(options: Options) -> list[Setting]:
    """(option number, kind, value) for every transfer of a job."""
    out: list[Setting] = []

    def put(name: str, kind: int, value: int | str | None) -> None:
        out.append((_reactor.option_number(name), kind, value))

    authorities = ca_file(options.ca_file)
    if authorities:
        for proxys in ("", "PROXY_"):
            put(f"{proxys}CAINFO", _job.SETTING_STRING, authorities)
            put(f"{proxys}CAPATH", _job.SETTING_STRING, None)  # a folder would be read anew for each connection
    put("CONNECTTIMEOUT_MS", _job.SETTING_LONG, max(1, int(options.connect_timeout * 1000)))
    if _reactor.option_number("DNS_CACHE_TIMEOUT") not in options.curl:
        put("DNS_CACHE_TIMEOUT", _job.SETTING_LONG, DNS_AGE)
    put("HTTP_VERSION", _job.SETTING_LONG, HTTP_VERSIONS[options.http_version])
    proxy = options.proxy
    if isinstance(proxy, str) or proxy is None:
        put("PROXY", _job.SETTING_STRING, proxy or "")
    else:  # a redirect may lead to an address of the other scheme
        for scheme, only in (("http", _job.SETTING_HTTP), ("https", _job.SETTING_HTTPS)):
            put("PROXY", _job.SETTING_STRING | only, proxy.get(scheme) or "")
    put("NOPROXY", _job.SETTING_STRING, options.noproxy or "")
    for name, path in (("SSLCERT", options.cert), ("SSLKEY", options.key)):
        if path:
            put(name, _job.SETTING_STRING | _job.SETTING_PRIVATE, path)
    if options.cert or options.key:
        put("KEYPASSWD", _job.SETTING_STRING, "")  # else OpenSSL asks on the terminal, and the reactor waits
        if _reactor.option_number("KEYPASSWD") not in options.curl:
            _refuse_encrypted(options)
    for number, value in options.curl.items():
        out.append(_raw(number, value))
    return out


def _refuse_encrypted(options: Options) -> None:
    """libcurl does not say that it is the pass phrase that is missing."""
    name = "key" if options.key else "cert"
    path = options.key or options.cert
    try:
        with open(str(path), "rb") as file:
            encrypted = b"ENCRYPTED" in file.read(1 << 20)
    except OSError as error:
        raise BadOption(f"{name}={path!r} can't be read: {error.strerror}", name=name, value=path) from None
    if encrypted:
        hint = "without it: openssl pkey -in KEY -out PLAIN; or give it, curl={pycurl.KEYPASSWD: …}"
        raise BadOption(f"{name}={path!r} has a pass phrase", name=name, value=path, hint=hint)


def _raw(number: int, value: object) -> Setting:
    """One of the user's own libcurl options, if it is plain data and allowed."""

    def refused(name: str, hint: str) -> BadOption:
        return BadOption(f"curl option {name} can't be set", name="curl", value=number, hint=hint)

    plain = isinstance(number, int) and 0 < number < 2**31
    found = _reactor.option_kind(number) if plain else None
    if found is None:
        raise refused(str(number), "give the number of an option whose value is a number, a text or a list of texts")
    name, kind = found
    if name in OURS:
        raise refused(name, f"use {OURS[name]}")
    if name not in ALLOWED:
        raise refused(name, "it is none of: " + ", ".join(sorted(ALLOWED)))
    if kind in (_job.SETTING_LONG, _job.SETTING_OFF_T):
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            raise refused(name, "its value is a number")
        return number, kind, value
    texts = [value] if kind == _job.SETTING_STRING else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) and t.isprintable() for t in texts):
        raise refused(name, "its value is a text" if kind == _job.SETTING_STRING else "its value is a list of texts")
    return number, kind, "\n".join(t for t in texts if t)
