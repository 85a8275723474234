"""DaemonSet: one pod on every node that its template fits."""
