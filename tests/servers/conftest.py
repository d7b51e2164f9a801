"""The servers' own tests need nothing but the servers' fixtures."""

from tests.servers.fixtures import name, origin, tls_origin

__all__ = ["name", "origin", "tls_origin"]
