"""The HTTPS front: the API as kubectl speaks it, a thin adapter over the registry. Imported only when it is served."""
