"""TLS as it should be and as it shouldn't: certificates for a stand-in, made by trustme for one test run."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """Files with a certificate chain and its key; what `--tls` and `server_context` take."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Certificates:
    """
    An authority, and certificates for 127.0.0.1 and localhost: `good`, `wrong_host`, `expired`, `not_yet`,
    `self_signed`, `unknown_authority`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.authority_file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.authority_file))
        now, day = datetime.now(UTC), timedelta(days=1)
        self.good = self._pair("good", self._authority.issue_cert("127.0.0.1", "localhost"))
        self.wrong_host = self._pair("wrong_host", self._authority.issue_cert("supplier.example"))
        self.expired = self._pair(
            "expired",
            self._authority.issue_cert("127.0.0.1", "localhost", not_before=now - 2 * day, not_after=now - day),
        )
        self.not_yet = self._pair(
            "not_yet",
            self._authority.issue_cert("127.0.0.1", "localhost", not_before=now + day, not_after=now + 2 * day),
        )
        stranger = trustme.CA()
        self.unknown_authority = self._pair("unknown_authority", stranger.issue_cert("127.0.0.1", "localhost"))
        self.self_signed = Pair(folder / "self_signed.pem", folder / "self_signed.key")
        stranger.cert_pem.write_to_path(str(self.self_signed.certificate))
        stranger.private_key_pem.write_to_path(str(self.self_signed.key))

    def _pair(self, name: str, issued: trustme.LeafCert) -> Pair:
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(pair.certificate), append=True)
        issued.private_key_pem.write_to_path(str(pair.key))
        return pair

    def client_context(self) -> ssl.SSLContext:
        """Trusts the authority alone, verifies the name."""
        return ssl.create_default_context(cafile=str(self.authority_file))
