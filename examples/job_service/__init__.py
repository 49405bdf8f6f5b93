"""An example: a service that starts jobs, each of them one `dask-claim` run. See README.md."""
