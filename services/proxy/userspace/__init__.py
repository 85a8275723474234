"""The unprivileged backend: TCP and UDP relays with the semantics of the kernel's one."""
