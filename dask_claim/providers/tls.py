"""Keys for one run: scheduler and workers refuse everybody who cannot read them.

Dask reads them by itself from its variables, in the process that holds the scheduler, in workers
and in the program's unmodified `Client()`.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

CA, PAIR = "ca.pem", "key.pem"
ROLES = ("scheduler", "worker", "client")
VARIABLE = "DASK_DISTRIBUTED__COMM__TLS__"


def make_keys(folder: Path) -> None:
    """Write a new authority and the one pair of key and certificate that it knows.

    As `distributed.Security.temporary`, with an elliptic curve: an RSA key takes up to 0.1 s.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dask-claim")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        # Clocks of other nodes may be behind.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for file, content in ((CA, public), (PAIR, private + public)):
        descriptor = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)


def variables(ca: str, pair: str, *roles: str) -> dict[str, str]:
    """Return Dask's variables for a process in these roles; each a path, or the text itself."""
    names = [f"{role.upper()}__{part}" for role in roles for part in ("CERT", "KEY")]
    return {f"{VARIABLE}CA_FILE": ca, **{VARIABLE + name: pair for name in names}}


def in_folder(folder: str | Path, *roles: str) -> dict[str, str]:
    """Return the variables that name the files of `folder`."""
    return variables(str(Path(folder, CA)), str(Path(folder, PAIR)), *roles)


def as_text(folder: Path, role: str) -> dict[str, str]:
    """Return the variables with the keys themselves, for a machine that cannot see `folder`."""
    return variables((folder / CA).read_text(), (folder / PAIR).read_text(), role)


def client_security(folder: str) -> Any:
    """Return the `distributed.Security` of a client with the keys of `folder`."""
    from distributed.security import Security

    ca, pair = str(Path(folder, CA)), str(Path(folder, PAIR))
    return Security(
        tls_ca_file=ca, tls_client_cert=pair, tls_client_key=pair, require_encryption=True
    )
