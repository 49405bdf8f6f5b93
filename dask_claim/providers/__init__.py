"""Where clusters come from: one module for each backend, looked up in `dask_claim.registry`."""
