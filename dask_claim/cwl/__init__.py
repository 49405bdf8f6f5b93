"""CWL documents that claim a cluster → CWL documents that any runner runs."""
