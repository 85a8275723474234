"""Kubernetes' API as Python sees it: kinds, JSON and YAML forms, quantities, selectors, errors."""
