"""Credentials for gateways: where they stand, which gateway they are for, how they are shown."""
