"""Everything that speaks to etcd: the only package that imports etcd's stubs."""
