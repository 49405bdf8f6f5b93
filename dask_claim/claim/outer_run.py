"""The run of dask-claim around this one: whether it is over and only its variables are left."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from dask_claim.claim.choice import RUN_ID, SCHEDULER_ADDRESS, Existing

TLS = "DASK_DISTRIBUTED__COMM__TLS__"
"""How Dask's variables for keys begin."""

# Seconds that its scheduler may take to answer.
ANSWERS_WITHIN = 2.0


def ended_run(environ: Mapping[str, str]) -> tuple[Existing, str] | None:
    """Return the scheduler that these variables name, and why it is certainly not there.

    One that takes the connection and is too busy for more is there. The clusters of gateways are
    left to the gateway, which knows whether they run (`providers.existing.outside_ended_run`).
    """
    text = environ.get(SCHEDULER_ADDRESS, "").strip()
    if not text or not environ.get(RUN_ID):
        return None
    cluster = Existing(SCHEDULER_ADDRESS, scheduler_address=text)
    try:
        address = urlsplit(text)
        if address.scheme not in ("tcp", "tls"):
            return None
        place = str(address.hostname), address.port or 0
        connection = socket.create_connection(place, ANSWERS_WITHIN)
    except (OSError, ValueError) as error:
        return cluster, f"does not answer ({error})"
    with connection:
        try:
            if address.scheme == "tls":
                _shake_hands(connection, environ)
        except TimeoutError:
            pass
        except OSError as error:
            return cluster, f"does not take the keys of that run ({error})"
    return None


def _shake_hands(connection: socket.socket, environ: Mapping[str, str]) -> None:
    """Present the keys of the run, or its scheduler would log a failed handshake."""
    import ssl  # takes longer than all else here, and is needed inside runs alone

    names = (f"{TLS}CA_FILE", f"{TLS}CLIENT__CERT", f"{TLS}CLIENT__KEY")
    ca, certificate, key = (environ.get(name, "") for name in names)
    if certificate:
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = False
        context.load_cert_chain(certificate, key)
        context.wrap_socket(connection).close()
