"""A LocalCluster on this machine."""
