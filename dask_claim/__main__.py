"""`python -m dask_claim`: the same as the `dask-claim` command."""

from dask_claim.cli.main import main

if __name__ == "__main__":
    main()
