"""A TLS server's certificates, good and bad."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme


class Certificates:
    """What a TLS server needs to be trusted, and to be distrusted in each way.

    Args:
        folder: Where to write the authority's certificate.
        names: Hosts that the right one is good for, besides localhost and 127.0.0.1.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        authority = trustme.CA()
        #: The authority to trust, as a file for REQUESTS_CA_BUNDLE.
        self.bundle = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.bundle))
        self.right = _context(authority.issue_cert("localhost", "127.0.0.1", *names))
        self.wrong_host = _context(authority.issue_cert("elsewhere.example"))
        self.unknown_authority = _context(trustme.CA().issue_cert("localhost", "127.0.0.1"))
        yesterday = datetime.now(timezone.utc) - timedelta(days=1)
        self.expired = _context(authority.issue_cert("localhost", "127.0.0.1", not_after=yesterday))


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
