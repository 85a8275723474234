"""CustomResourceDefinitions: what they declare, their life, and the resources that they add."""
