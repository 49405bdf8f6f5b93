"""One run: the cluster, the command, the variables between them, the receipt."""
