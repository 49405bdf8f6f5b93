"""What ends a cluster, however its run ends."""
