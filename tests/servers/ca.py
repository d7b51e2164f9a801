"""Certificates for the test servers, from an authority that lives for one run.

Writes PEM files into a folder and returns their paths. `certify` makes a certificate in one of four
conditions: valid, expired, for another host, or signed by an authority nobody trusts. Knows trustme
only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

import trustme

if TYPE_CHECKING:
    from pathlib import Path

Condition = Literal["valid", "expired", "wrong-host", "untrusted"]
CONDITIONS: tuple[str, ...] = get_args(Condition)
HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificate:
    """Paths of a server's certificate chain and key, and of the authority a client should trust."""

    ca_file: Path
    cert_file: Path
    key_file: Path


def client_certificate(folder: Path, condition: Condition = "valid") -> Certificate:
    """A client's certificate in `folder`, and the authority that a server should trust."""
    folder.mkdir(exist_ok=True)
    authority = trustme.CA()
    signer = trustme.CA() if condition == "untrusted" else authority
    client = signer.issue_cert("client@tests.invalid", not_after=_end(condition))
    made = Certificate(folder / "client-ca.pem", folder / "client.pem", folder / "client.key")
    authority.cert_pem.write_to_path(str(made.ca_file))
    client.private_key_pem.write_to_path(str(made.key_file))
    client.cert_chain_pems[0].write_to_path(str(made.cert_file))
    return made


def certify(folder: Path, condition: Condition = "valid") -> Certificate:
    """Make an authority and one server certificate in `folder`."""
    authority = trustme.CA()
    signer = trustme.CA() if condition == "untrusted" else authority
    hosts = ("elsewhere.invalid",) if condition == "wrong-host" else HOSTS
    server = signer.issue_cert(*hosts, not_after=_end(condition))
    made = Certificate(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority.cert_pem.write_to_path(str(made.ca_file))
    server.private_key_pem.write_to_path(str(made.key_file))
    for number, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(str(made.cert_file), append=number > 0)
    return made


def _end(condition: Condition) -> datetime | None:
    return datetime.now(UTC) - timedelta(days=1) if condition == "expired" else None
