"""Clusters of a Dask Gateway."""
