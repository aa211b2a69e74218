"""The documentation: what is generated from the code, and checks that the rest is true."""
