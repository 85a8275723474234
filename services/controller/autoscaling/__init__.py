"""HorizontalPodAutoscaler: sizes a workload by what its pods use."""
