"""Reading a file of rows. It runs in a process of its own, and imports little: see app/files/unpack.py."""
