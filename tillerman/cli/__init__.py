"""`tiller`: one module per family of verbs, each imported only when its verb is used.

main.py names them. session.py has the client, the namespace and how failures are told; resolve.py turns what people
write (`pods`, `deploy/web`, `-f file`) into resources and objects.
"""
