"""Credentials for gateways: where they stand, which gateway they are for, and how they are shown.

Configured by their paths, in `DASK_GATEWAY__AUTH__TYPE` or Dask's `gateway.auth.type`:
`dask_claim.credentials.bearer.BearerAuth`, `dask_claim.credentials.oidc.OidcAuth`.
"""
