"""Tours of kubectl and Python clients: each is one function, in a namespace of its own; they run side by side."""
