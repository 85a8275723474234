"""Deployment: rolls a pod template out through ReplicaSets."""
