"""Numbers that must be unique over the cluster: cluster IPs and node ports of Services."""
