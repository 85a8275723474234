"""The scheduler's plugins: one module per concern, one class per Kubernetes plugin of the same name."""
