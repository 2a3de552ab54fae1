"""The command `splade-es`: each command is options, one call of the library, and output."""
