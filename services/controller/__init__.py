"""The controller manager: one process, one shared set of informers, one small module per controller."""
