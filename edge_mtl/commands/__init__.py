"""What the commands of `edge-mtl` do beyond parsing their arguments: one module per command."""
