"""Nodes: their heartbeats, taints and evictions, and the pod network each gets."""
