"""The nftables backend: this package speaks nf_tables and conntrack netlink to the kernel directly."""
