"""Cluster DNS: answers from the watched Services and EndpointSlices, forwards everything else."""
