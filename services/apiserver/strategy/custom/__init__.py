"""Rules for definitions of custom resources and for their schemas, and those for objects that go beyond a schema."""
