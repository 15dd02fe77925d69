"""Public datasets by name: fetched, verified, unpacked."""
