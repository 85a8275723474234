"""How containers are run: one interface, and the Docker, process and hollow runtimes behind it."""
