"""A whole cluster on this machine: `tiller up` lays out certificates and starts every service as its own process."""
