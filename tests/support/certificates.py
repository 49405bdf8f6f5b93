"""A site's own certification authority."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

NO_OTHER_USE = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "encipher_only", "decipher_only",
)  # fmt: skip


def certificates(folder: Path) -> None:
    """Write `ca.pem`, and `cert.pem` with `key.pem` of a server at 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now, day = datetime.now(timezone.utc), timedelta(days=1)
    signs = dict.fromkeys(NO_OTHER_USE, False) | {"key_cert_sign": True, "crl_sign": True}
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    for name, own, extension in (
        ("ca", ca_key, x509.KeyUsage(**signs)),
        ("cert", key, x509.SubjectAlternativeName([address])),
    ):
        made = x509.CertificateBuilder(
            named("ca"), named(name), own.public_key(), x509.random_serial_number(),
            now - day, now + day,
        )  # fmt: skip
        for each, critical in (
            (x509.BasicConstraints(own is ca_key, None), True),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False),
            (x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False),
            (extension, own is ca_key),
        ):
            made = made.add_extension(each, critical)
        signed = made.sign(ca_key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
