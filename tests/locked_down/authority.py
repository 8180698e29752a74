"""A certificate authority, as a provider of databases or an office's firewall has one."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

# A name that no name server knows (RFC 6761, section 6.2).
NAME = "db.example.test"
URL = f"https://{NAME}"
# The address of the endpoint's side, where there is a network for the test alone.
OUTSIDE = "10.77.0.1"


class Authority:
    """Vouches for the endpoint's name and addresses.

    Args:
        bundle: The file to write its certificate to, for REQUESTS_CA_BUNDLE.
    """

    def __init__(self, bundle: Path) -> None:
        authority = trustme.CA()
        self.bundle = bundle
        authority.cert_pem.write_to_path(str(bundle))
        self.as_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(NAME, OUTSIDE, "127.0.0.1").configure_cert(self.as_server)
        # Tickets come after the handshake, and would have a relay wait for data behind them.
        self.as_server.num_tickets = 0
        self.as_client = ssl.create_default_context(cafile=str(bundle))
