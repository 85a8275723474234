"""ReplicaSet: keeps the number of pods that match a selector at spec.replicas."""
